"""The page pool: where keys and values live.

A page number stands for one latent frame in all layers. A page is born by `allocate`, filled by `cache_write` layer
after layer, shared by `retain` (a fork, a prompt that two streams use), and free again when every holder has called
`release`. Nothing is ever moved or copied. Which pages a stream sees is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from .layout import Layout, logical_k, logical_v, page_shapes
from .reference import write_rows


class CapacityError(RuntimeError):
    """The pool has fewer free pages than were asked for; nothing was changed."""


class PagePool:
    """K and V storage for a fixed number of pages, with a reference count each.

    Args:
        layers: transformer blocks that keep keys.
        pages: capacity, in pages.
        heads, rows, head_dim: h, keys of a page (the tokens of one latent frame), d.
        dtype: float32, bfloat16 or float64.
        device: where the storage is.
        layout: of a page's inside; `"tiled"` on a CPU and `"plain"` elsewhere where None.

    Raises:
        ValueError: a size is below 1, or the dtype is not supported.
    """

    def __init__(
        self,
        layers: int,
        pages: int,
        heads: int,
        rows: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        layout: Layout | None = None,
    ) -> None:
        for name, size in (("layers", layers), ("pages", pages), ("heads", heads), ("rows", rows)):
            if size < 1:
                raise ValueError(f"PagePool: {name} is {size}; it must be at least 1")
        if head_dim < 2 or head_dim % 2:
            raise ValueError(f"PagePool: head_dim is {head_dim}; it must be even, since RoPE turns pairs")
        if dtype not in (torch.float32, torch.bfloat16, torch.float64):
            raise ValueError(f"PagePool: dtype is {dtype}; it must be float32, bfloat16 or float64")
        self.layers, self.pages, self.heads, self.rows, self.head_dim = layers, pages, heads, rows, head_dim
        self.dtype, self.device = dtype, torch.device(device)
        self.layout: Layout = layout or ("tiled" if self.device.type == "cpu" else "plain")
        k_shape, v_shape = page_shapes(self.layout, pages, heads, rows, head_dim, dtype)
        self.k_pages = torch.zeros(layers, *k_shape, dtype=dtype, device=self.device)
        self.v_pages = torch.zeros(layers, *v_shape, dtype=dtype, device=self.device)
        self._layers = [(self.k_pages[i], self.v_pages[i]) for i in range(layers)]
        self._references = [0] * pages
        self._births = [-1] * pages
        self._born = 0
        self._free = list(range(pages - 1, -1, -1))

    @staticmethod
    def page_bytes(layers: int, heads: int, rows: int, head_dim: int, dtype: torch.dtype, layout: Layout) -> int:
        """Bytes of one page in all layers, before anything is allocated."""
        k_shape, v_shape = page_shapes(layout, 1, heads, rows, head_dim, dtype)
        return layers * (math.prod(k_shape) + math.prod(v_shape)) * dtype.itemsize

    @property
    def bytes(self) -> int:
        """Bytes of the whole storage."""
        return self.k_pages.nbytes + self.v_pages.nbytes

    @property
    def bytes_per_page(self) -> int:
        return self.bytes // self.pages

    @property
    def pages_free(self) -> int:
        return len(self._free)

    def references(self, page: int) -> int:
        """Holders of a page; 0 where it is free."""
        self._check_number(page)
        return self._references[page]

    def birth(self, page: int) -> int:
        """Number of the allocation that a page is from: page numbers come again, this one never does."""
        self._check_number(page)
        return self._births[page]

    def allocate(self, count: int = 1) -> list[int]:
        """`count` free pages, each held once by the caller.

        Raises:
            CapacityError: fewer are free; nothing was changed.
        """
        if count < 0:
            raise ValueError(f"allocate: count is {count}; it must be at least 0")
        if count > len(self._free):
            raise CapacityError(
                f"{count} pages were asked for and {len(self._free)} of {self.pages} are free; close a stream, "
                "shorten its history or its window, or make the pool larger"
            )
        taken = [self._free.pop() for _ in range(count)]
        for page in taken:
            self._references[page] = 1
            self._births[page] = self._born
            self._born += 1
        return taken

    def retain(self, pages: Iterable[int]) -> None:
        """One more holder for each page.

        Raises:
            ValueError: a page is free; nothing was changed.
        """
        pages = self._held(pages, "retain")
        for page in pages:
            self._references[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """One holder less for each page; a page without holders is free.

        Raises:
            ValueError: a page is free, or listed more often than it is held; nothing was changed.
        """
        pages = self._held(pages, "release")
        for page in set(pages):
            if pages.count(page) > self._references[page]:
                raise ValueError(
                    f"release: page {page} is listed {pages.count(page)} times and held "
                    f"{self._references[page]} times; release a page as often as it was allocated and retained"
                )
        for page in pages:
            self._references[page] -= 1
            if self._references[page] == 0:
                self._free.append(page)

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The K and V pages of one layer, as the operators take them."""
        return self._layers[index]

    def write(self, layer: int, page: int, k: torch.Tensor, v: torch.Tensor) -> None:
        """Writes the first n rows of a held page: text, and tests. Frames are written by `cache_write`.

        Args:
            k, v: [n, h, d], 1 <= n <= rows.

        Raises:
            ValueError: the page is free, a shape or dtype does not fit, or a tensor needs a gradient.
        """
        self._held([page], "write")
        for name, tensor in (("k", k), ("v", v)):
            n = tensor.shape[0] if tensor.ndim == 3 else 0
            if tensor.shape != (n, self.heads, self.head_dim) or not 1 <= n <= self.rows:
                raise ValueError(
                    f"write: {name} has shape {list(tensor.shape)}; it must be [n, h, d] = "
                    f"[1 to {self.rows}, {self.heads}, {self.head_dim}]"
                )
            if tensor.dtype != self.dtype:
                raise ValueError(f"write: {name} has dtype {tensor.dtype}; it must be {self.dtype}: cast it")
            if tensor.requires_grad and torch.is_grad_enabled():
                raise ValueError(f"write: {name} needs a gradient, and pages keep none; detach it")
        if k.shape != v.shape:
            raise ValueError(f"write: v has {v.shape[0]} rows and k has {k.shape[0]}; they must be equal")
        k_pages, v_pages = self._layers[layer]
        write_rows(k_pages[page], v_pages[page], k.detach(), v.detach())

    def read(self, layer: int, page: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of a page's keys and values, [rows, h, d] each, whatever the layout inside."""
        self._check_number(page)
        k_pages, v_pages = self._layers[layer]
        k = logical_k(k_pages[page], self.rows, self.layout)
        v = logical_v(v_pages[page], self.rows, self.layout)
        return k.transpose(0, 1).clone(), v.transpose(0, 1).clone()

    def _check_number(self, page: int) -> None:
        if not 0 <= page < self.pages:
            raise ValueError(f"page is {page}; it must be between 0 and {self.pages - 1}")

    def _held(self, pages: Iterable[int], verb: str) -> list[int]:
        pages = list(pages)
        for page in pages:
            self._check_number(page)
            if self._references[page] == 0:
                raise ValueError(f"{verb}: page {page} is free; only pages from allocate() can be used")
        return pages

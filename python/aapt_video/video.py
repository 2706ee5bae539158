"""Video files and pictures, in and out: H.264 through PyAV, and fitting to a model's size.

Frames are uint8 [n, H, W, 3] everywhere, as a stream gives them. Fitting means: scale until the target is
covered, then cut out the middle; nothing is ever stretched.
"""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

Frames = Tensor | np.ndarray

_BT709 = 1  # its number among the primaries, transfer curves and matrices of H.264 (ITU-T H.273)
_LIMITED = 1  # the range of its levels: 16..235


class Mp4Writer:
    """Encodes frames as they come (H.264, yuv420p, BT.709 and tagged so); a context manager.

    The file appears under its name when the block ends, whole. A block that Ctrl-C ends leaves what was encoded
    so far as a playable file; one that any other error ends leaves none.
    """

    def __init__(self, path: str | Path, fps: float = 24, crf: int = 18) -> None:
        """fps: pictures per second. crf: 0 (lossless) to 51 (worst)."""
        if fps <= 0:
            raise ValueError(f"fps={fps} must be positive")
        if not 0 <= crf <= 51:
            raise ValueError(f"crf={crf} must be in 0..51; 18 looks like the original")
        self.path, self.count = Path(path), 0
        self._rate, self._crf = Fraction(fps).limit_denominator(1001), crf
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream

    def add(self, frames: Frames) -> None:
        """Encodes uint8 [n, H, W, 3]; H and W are even, and those of the first call."""
        pictures = frames.cpu().numpy() if isinstance(frames, Tensor) else frames
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
            raise ValueError(
                f"frames is {pictures.dtype} {list(pictures.shape)}; it must be uint8 [n, H, W, 3]: see to_uint8"
            )
        height, width = pictures.shape[1:3]
        if height % 2 or width % 2:
            raise ValueError(f"frames is {height}x{width}; H.264 takes even height and width: crop a row or column")
        if self._container is None:
            self._open(height, width)
            assert self._container is not None
        if (height, width) != (self._stream.height, self._stream.width):
            raise ValueError(
                f"frames is {height}x{width}, those before were {self._stream.height}x{self._stream.width}: a "
                f"file has one size"
            )
        for picture in pictures:
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            yuv = rgb.reformat(format="yuv420p", dst_colorspace="ITU709")
            self._container.mux(self._stream.encode(yuv))
            self.count += 1

    def _open(self, height: int, width: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "faststart"})
        self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": str(self._crf)})
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
        context = self._stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED

    def __enter__(self) -> "Mp4Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        keep = self.count > 0 and (kind is None or issubclass(kind, KeyboardInterrupt))
        if self._container is not None:
            try:
                if keep:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
                if keep:
                    os.replace(self._partial, self.path)
            finally:
                self._partial.unlink(missing_ok=True)
        if kind is None and self.count == 0:
            raise ValueError(f"frames is empty: nothing to write to {self.path}")


def write_mp4(path: str | Path, frames: Iterable[Frames], fps: float = 24, crf: int = 18) -> int:
    """Writes uint8 [n, H, W, 3] after uint8 [n, H, W, 3] as an `Mp4Writer` does; returns the number of pictures."""
    with Mp4Writer(path, fps, crf) as writer:
        for some in frames:
            writer.add(some)
    return writer.count


def read_video(
    path: str | Path,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    chunk: int = 24,
) -> Iterator[Tensor]:
    """Decodes a video file: uint8 [chunk, height, width, 3] after another, the last one shorter.

    height, width: the pictures are fitted to this size; both or neither (then it is the file's own). fps: pictures
    are repeated or dropped to this rate; None keeps every picture. Rotation and pixel shape of the file are
    respected. Raises ValueError for a file without video, FileNotFoundError for no file.
    """
    if (height is None) != (width is None):
        raise ValueError(f"height={height}, width={width}: give both, or neither to keep the file's own size")
    if fps is not None and fps <= 0:
        raise ValueError(f"fps={fps} must be positive, or None to keep every picture")
    if chunk < 1:
        raise ValueError(f"chunk={chunk} must be >= 1")
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"path={str(path)!r} holds no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = container.decode(stream)
        shape = stream.sample_aspect_ratio or Fraction(1)
        pictures = (_picture(f, height, width, shape) for f in (_at_rate(frames, fps) if fps else frames))
        while some := list(islice(pictures, chunk)):
            yield torch.from_numpy(np.stack(some))


def _at_rate(frames: Iterator[av.VideoFrame], fps: float) -> Iterator[av.VideoFrame]:
    """The frame on screen in the middle of each 1/fps second, as often as that falls."""
    step = 1 / Fraction(fps).limit_denominator(1001)
    moment = step / 2
    start = shown = None
    for frame in frames:
        if frame.pts is None or frame.time_base is None:
            continue
        time = frame.pts * frame.time_base
        start = time if start is None else start
        while shown is not None and moment < time - start:
            yield shown
            moment += step
        shown = frame
        end = time - start + (frame.duration or 0) * frame.time_base
    while shown is not None and moment < max(end, step):
        yield shown
        moment += step


def _picture(frame: av.VideoFrame, height: int | None, width: int | None, shape: Fraction) -> np.ndarray:
    """uint8 [height, width, 3], upright; `shape` is a pixel's width over its height."""
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    seen_height, seen_width = frame.height, round(frame.width * shape)
    if height is None or width is None:
        height, width = (seen_height, seen_width) if turns % 2 == 0 else (seen_width, seen_height)
    if turns % 2:
        height, width = width, height
    scale = max(height / seen_height, width / seen_width)
    cover_height, cover_width = max(height, round(seen_height * scale)), max(width, round(seen_width * scale))
    picture = frame.to_ndarray(
        format="rgb24", height=cover_height, width=cover_width, interpolation="AREA" if scale < 1 else "BICUBIC"
    )
    top, left = (cover_height - height) // 2, (cover_width - width) // 2
    return np.rot90(picture[top : top + height, left : left + width], turns)


def fit_image(image: str | Path | Image.Image | Frames, height: int, width: int) -> Tensor:
    """One picture at a model's size: uint8 [height, width, 3].

    image: a file (its EXIF orientation is respected), a PIL image, or uint8 [H, W, 3].
    """
    if height < 1 or width < 1:
        raise ValueError(f"height={height}, width={width} must be positive")
    if isinstance(image, str | Path):
        with Image.open(image) as opened:
            return fit_image(opened, height, width)
    if not isinstance(image, Image.Image):
        array = image.cpu().numpy() if isinstance(image, Tensor) else image
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise ValueError(f"image is {array.dtype} {list(array.shape)}; it must be uint8 [H, W, 3]")
        image = Image.fromarray(array)
    upright = ImageOps.exif_transpose(image).convert("RGB")
    return torch.from_numpy(np.array(ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS)))


def contact_sheet(frames: Frames, columns: int, gap: int = 2) -> Image.Image:
    """Pictures uint8 [n, H, W, 3] side by side, row after row, `gap` pixels apart on black."""
    pictures = frames.cpu().numpy() if isinstance(frames, Tensor) else frames
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3 or len(pictures) == 0:
        raise ValueError(f"frames is {pictures.dtype} {list(pictures.shape)}; it must be uint8 [n >= 1, H, W, 3]")
    if columns < 1 or gap < 0:
        raise ValueError(f"columns={columns} must be >= 1 and gap={gap} >= 0")
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap))
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        sheet.paste(Image.fromarray(picture), (column * (width + gap), row * (height + gap)))
    return sheet

"""Checks of single fields of a message: each takes a value of JSON, and returns it or raises `ProtocolError`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


class ProtocolError(ValueError):
    """A message that is none; its text goes back to the client."""


Check = Callable[[Any], Any]


def fail(value: Any, wanted: str) -> ProtocolError:
    shown = repr(value)
    return ProtocolError(f"is {shown if len(shown) <= 40 else shown[:37] + '...'}; it must be {wanted}")


def integer(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise fail(value, f"an integer from {low} to {high}")
        return value

    return check


def number(low: float, high: float) -> Check:
    def check(value: Any) -> float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not low <= value <= high:  # NaN fails the comparison too
            raise fail(value, f"a number from {low:g} to {high:g}")
        return float(value)

    return check


def text(longest: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest or (not value.isascii() and not _encodes(value)):
            raise fail(value, f"text of at most {longest} characters")
        return value

    return check


def _encodes(value: str) -> bool:
    """False for half of a surrogate pair, which JSON may smuggle in and UTF-8 cannot carry."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise fail(value, "true or false")
    return value


def names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= 8 or not all(isinstance(one, str) for one in value):
        raise fail(value, "a list of names, the preferred one first")
    return tuple(value)


def array(*depths: int) -> Check:
    """Nested lists of finite numbers; `depths` are the depths that are allowed."""

    def shape(value: Any) -> tuple[int, ...]:
        if isinstance(value, list):
            inner = {shape(one) for one in value}
            if len(inner) != 1 or len(value) > 256:
                raise fail(value, "a regular array")
            return (len(value), *inner.pop())
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise fail(value, "a finite number")
        return ()

    def check(value: Any) -> list[Any]:
        if len(shape(value)) not in depths:
            raise fail(value, f"an array of {' or '.join(map(str, depths))} dimensions")
        return value  # type: ignore[no-any-return]

    return check


def optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)

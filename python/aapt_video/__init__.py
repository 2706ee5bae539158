"""Real-time autoregressive video generation.

from aapt_video import load
with load("doom").open(seed=7) as stream:
    frames = stream.step(control=camera)  # uint8 [4, H, W, 3]
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .stream import Clip, Generator, Stream, load, save_generator

__all__ = ["Clip", "Generator", "Stream", "load", "save_generator"]


def __getattr__(name: str) -> Any:
    """Imports torch only when a stream is wanted: the command line stays quick."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import stream

    return getattr(stream, name)

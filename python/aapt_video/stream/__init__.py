"""Streams: video that is made while it is watched.

`state.py` is the one value that a stream is; `window.py` says which pages it sees; `engine.py` steps lists of states;
`history.py` keeps old ones; `stream.py` is what users hold; `generator.py` opens streams; `folder.py` loads and saves.
"""

from .clip import Clip
from .engine import Engine
from .folder import load, save_generator
from .frames import Frames
from .generator import Generator, Limits, Start
from .history import SNAPSHOT_EVERY
from .state import Prompt, StreamState
from .stream import Stream, step_together

__all__ = [
    "SNAPSHOT_EVERY",
    "Clip",
    "Engine",
    "Frames",
    "Generator",
    "Limits",
    "Prompt",
    "Start",
    "Stream",
    "StreamState",
    "load",
    "save_generator",
    "step_together",
]

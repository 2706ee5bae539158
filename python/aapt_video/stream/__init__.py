"""Streams: video that is made while it is watched.

`state.py` is the one value that a stream is; `window.py` says which pages it sees; `engine.py` steps lists of states,
by the passes of `program.py`, whose decoder has a `lane.py` of its own; `texts.py` holds their prompts, `history.py`
old states; `stream.py` is what users hold, `snapshot.py` what a file holds of it; `generator.py` opens streams;
`folder.py` loads and saves models; `speeds.py` tells how a world's camera moves.
"""

from .clip import Clip
from .engine import Engine
from .folder import load, save_generator
from .frames import Frames
from .generator import Generator, Limits, Start
from .history import SNAPSHOT_EVERY
from .speeds import Speeds
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
    "Speeds",
    "Start",
    "Stream",
    "StreamState",
    "load",
    "save_generator",
    "step_together",
]

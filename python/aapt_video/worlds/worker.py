"""Makes one shard in a process of its own: `python -m aapt_video.worlds.worker`, the job as JSON on stdin.

An engine or a decoder may hang, crash or litter its working directory. So it runs here, in a directory that the
parent made (`making.py`) and will remove, and the parent watches (`watched.py`). Standard output carries one line
per report, the number of new frames; when the parent is gone, the next report fails and the process ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from aapt_video.worlds.makers import maker_from_dict
from aapt_video.worlds.shards import ShardWriter


def main() -> None:
    """Makes the shard that the job describes: maker, config, root, shard, compress, litter (a working directory)."""
    job: dict[str, Any] = json.load(sys.stdin)
    # Reports have a channel of their own: an engine may write to standard output whatever it likes.
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # as an exception, so that engines are closed
    os.chdir(job["litter"])
    maker = maker_from_dict(job["maker"], job["config"])
    with ShardWriter(Path(job["root"]), job["shard"], maker.size, job["compress"]) as writer:
        maker.capture(job["shard"], writer, lambda frames: print(frames, file=reports))


if __name__ == "__main__":
    main()

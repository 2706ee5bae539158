"""Makes one shard in a process of its own: `python -m aapt_video.worlds.worker`, the job as JSON on stdin.

An engine or a decoder may hang, crash or litter its working directory. So it runs here, in a directory that
the parent (`making.py`) made and will remove, and the parent watches. Standard output carries one line per
report, the number of new frames; when the parent is gone, the next report fails and the process ends.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from aapt_video.worlds.makers import maker_from_dict
from aapt_video.worlds.shards import ShardWriter


def run(job: dict[str, Any]) -> None:
    """Makes the shard that a job describes: maker, config, root, shard, compress, litter (a working
    directory)."""
    maker = maker_from_dict(job["maker"], job["config"])
    with ShardWriter(Path(job["root"]), job["shard"], maker.size, job["compress"]) as writer:
        maker.capture(job["shard"], writer, lambda frames: print(frames, flush=True))


def main() -> None:
    """Entry point of the process."""
    job = json.load(sys.stdin)
    os.chdir(job["litter"])
    run(job)


if __name__ == "__main__":
    main()

"""Where nvcc, cuobjdump and nvdisasm are on this machine: a toolkit, or NVIDIA's wheels."""

import shutil
import sysconfig
from pathlib import Path


def find(tool: str) -> Path | None:
    """The tool from PATH, the usual toolkit folder, or the wheels of the extras `cuda-compiler` and `cuda-inspect`."""
    on_path = shutil.which(tool)
    candidates = [Path(on_path)] if on_path else []
    candidates.append(Path("/usr/local/cuda/bin") / tool)
    candidates += sorted(Path(sysconfig.get_paths()["purelib"]).glob(f"nvidia/cu*/bin/{tool}"))
    return next((path for path in candidates if path.exists()), None)

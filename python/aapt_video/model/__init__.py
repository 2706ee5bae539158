"""The transformer: one frozen configuration, one block function, three forwards.

| forward                  | frames        | attention over           | gradients | used by                |
|--------------------------|---------------|--------------------------|-----------|------------------------|
| `Transformer.forward`    | a whole clip  | tensors, block-causal    | yes       | diffusion, distillation |
| `Transformer.roll`       | one at a time | a functional cache       | yes       | student forcing        |
| `CachedTransformer.open` | one at a time | pages, by the operators  | no        | streams                |

They agree to 1e-10 in float64 (`tests/test_cached_equals_parallel.py`): everything else rests on that.
"""

from .attention import TextKeys
from .cached import CachedTransformer, FramePlan
from .config import NAMED, TransformerConfig, named_config
from .fp8 import Linears
from .transformer import Rollout, Transformer

__all__ = [
    "NAMED",
    "CachedTransformer",
    "FramePlan",
    "Linears",
    "Rollout",
    "TextKeys",
    "Transformer",
    "TransformerConfig",
    "named_config",
]

"""What every model returns."""

import jax
from flax import struct


@struct.dataclass
class Output:
  """The result of one forward pass. A field a model does not have is None.

  `logits_BK` is float32. `features_BD` is what the head sees (float32), the input of every
  transfer evaluator. `tokens_BND` are all tokens after the last normalization, in the compute
  dtype: class token, distillation token, registers, then patches row by row.
  `distill_logits_BK`, like `logits_BK`, comes from the distillation head, in training only:
  otherwise `logits_BK` is the mean of both heads.
  """

  logits_BK: jax.Array | None = None
  features_BD: jax.Array | None = None
  tokens_BND: jax.Array | None = None
  distill_logits_BK: jax.Array | None = None

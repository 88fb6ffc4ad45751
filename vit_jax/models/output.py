"""What goes into translation models, and what every model returns."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from vit_jax.models.texts import BEGIN


@struct.dataclass
class Output:
  """The result of one forward pass. A field a model does not have is None.

  `logits_BK` is float32. `features_BD` is what the head sees (float32), the input of every
  transfer evaluator. `tokens_BND` are all tokens after the last normalization, in the compute
  dtype: class token, distillation token, registers, then patches row by row. A ViT in training has
  those alone that its heads read: if it reads the class token, that and the distillation token.
  `distill_logits_BK`, like `logits_BK`, comes from the distillation head, in training only:
  otherwise `logits_BK` is the mean of both heads.
  """

  logits_BK: jax.Array | None = None
  features_BD: jax.Array | None = None
  tokens_BND: jax.Array | None = None
  distill_logits_BK: jax.Array | None = None

  @property
  def logits(self) -> jax.Array | None:
    return self.logits_BK


class Pair(NamedTuple):
  """Sentences as token ids, padded by PAD, and what is known of their translations.

  `target_BT` begins with BEGIN: where it has token t, the model predicts token t + 1.
  """

  source_BS: jax.Array
  target_BT: jax.Array


def shifted(target_BT: jax.Array) -> jax.Array:
  """What a decoder reads to predict a target: BEGIN, then all but its last token."""
  return jnp.concatenate([jnp.full_like(target_BT[:, :1], BEGIN), target_BT[:, :-1]], axis=1)


@struct.dataclass
class TranslationOutput:
  """The result of a translation model.

  `logits_BTV` are of the token after each one of the target, float32. `memory_BSD` is what the
  encoder says of each source token, in the compute dtype. `attention_BTS` are the weights of source
  tokens at each prediction, float32: of a recurrent model with attention; those of a Transformer
  are among its 'intermediates'.
  """

  logits_BTV: jax.Array
  memory_BSD: jax.Array
  attention_BTS: jax.Array | None = None

  @property
  def logits(self) -> jax.Array:
    return self.logits_BTV

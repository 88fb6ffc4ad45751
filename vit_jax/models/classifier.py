"""What all models but the ViTs share: their attributes and a linear head."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models.dense import Dense
from vit_jax.models.initializers import Init
from vit_jax.models.inputs import Inputs
from vit_jax.models.output import Output

Array = jax.Array


class Classifier(nn.Module):
  """A network whose last part is `output`.

  Attributes:
    num_classes: 0 is without a head.
    inputs: the images that the weights expect.
  """

  num_classes: int
  options: Any
  inputs: Inputs = Inputs()

  @nn.nowrap
  def output(
    self,
    x: Array,
    features_BD: Array,
    kernel_init: Init,
    bias_init: Init = nn.initializers.zeros,
  ) -> Output:
    """Applies the head to the features; `x` has the tokens, (B, N, D) or (B, H, W, D)."""
    logits_BK = None
    if self.num_classes:
      logits_BK = Dense(
        self.num_classes,
        kernel_init,
        bias_init,
        dtype=self.options.dtype,
        out_dtype=jnp.float32,
        name='head',
      )(features_BD)
    return Output(logits_BK, features_BD, x.reshape(x.shape[0], -1, x.shape[-1]))

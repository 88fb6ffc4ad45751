"""Tasks: what is asked of a model. Three pure functions: inputs, loss, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax import config
from vit_jax.data import augment
from vit_jax.training import losses

Array = jax.Array
Batch = dict[str, Array]


@dataclass(frozen=True)
class Classification:
  """One label an image."""

  num_classes: int
  loss_config: config.Loss
  augment: config.Augment
  mean: tuple[float, ...]
  std: tuple[float, ...]

  def inputs(self, batch: Batch, key: Array | None) -> tuple[Array, Array]:
    """(images_BHWC float32, targets_BK); with a key augmented for training."""
    images_BHWC, targets_BK = batch['image'], jax.nn.one_hot(batch['label'], self.num_classes)
    if key is not None:
      images_BHWC, targets_BK = augment.augment(key, images_BHWC, targets_BK, self.augment)
    return augment.normalise(images_BHWC, self.mean, self.std), targets_BK

  def loss(self, output: Any, targets_BK: Array, train: bool) -> Array:
    """loss_B; smoothed labels in training only."""
    if train:
      targets_BK = losses.smooth(targets_BK, self.loss_config.label_smoothing)
    return losses.LOSSES[self.loss_config.name](output.logits_BK.astype(jnp.float32), targets_BK)

  def metrics(self, output: Any, batch: Batch, loss_B: Array) -> Batch:
    """What evaluation needs of each example, as arrays over B.

    `rank` counts the classes that score at least as high as the true one, itself apart: top-k
    is rank < k, so ties count against the model.
    """
    logits_BK = output.logits_BK.astype(jnp.float32)
    label_B1 = jnp.maximum(batch['label'], 0)[:, None]
    true_B1 = jnp.take_along_axis(logits_BK, label_B1, axis=1)
    return {'loss': loss_B, 'prediction': jnp.argmax(logits_BK, axis=-1).astype(jnp.int32),
            'rank': jnp.sum(logits_BK >= true_B1, axis=-1).astype(jnp.int32) - 1,
            'confidence': jnp.max(jax.nn.softmax(logits_BK), axis=-1)}

"""Tasks: what is asked of a model. Three pure functions: inputs, loss, metrics.

A task may read variables that no step changes, such as a teacher's: `inputs` of a training step
takes them last, and they reach the step as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vit_jax import config
from vit_jax.data import augment
from vit_jax.training import losses

Array = jax.Array
Batch = dict[str, Array]


class Targets(NamedTuple):
  """What a step learns from: labels as distributions, and a teacher's logits if there is one."""

  labels_BK: Array
  teacher_BK: Array | None = None


@dataclass(frozen=True)
class Classification:
  """One label an image."""

  num_classes: int
  loss_config: config.Loss
  augment: config.Augment
  mean: tuple[float, ...]
  std: tuple[float, ...]

  def inputs(self, batch: Batch, key: Array | None) -> tuple[Array, Targets]:
    """(images_BHWC float32, targets); with a key augmented for training."""
    images_BHWC, labels_BK = self.augmented(batch, key)
    return augment.normalise(images_BHWC, self.mean, self.std), Targets(labels_BK)

  def augmented(self, batch: Batch, key: Array | None) -> tuple[Array, Array]:
    """(images_BHWC in [0, 255], labels_BK)."""
    images_BHWC, labels_BK = batch['image'], jax.nn.one_hot(batch['label'], self.num_classes)
    if key is None:
      return images_BHWC, labels_BK
    labels_BK = batch.get('soft_label', labels_BK)
    return augment.augment(key, images_BHWC, labels_BK, batch['mask'], self.augment)

  def loss(self, output: Any, targets: Targets, train: bool) -> Array:
    """loss_B; smoothed labels in training only. Two heads count half each."""
    loss_B = self.label_loss(output.logits_BK, targets, train)
    if output.distill_logits_BK is None:
      return loss_B
    return (loss_B + self.label_loss(output.distill_logits_BK, targets, train)) / 2

  def label_loss(self, logits_BK: Array, targets: Targets, train: bool) -> Array:
    """loss_B of these logits and the labels."""
    labels_BK = targets.labels_BK
    if train:
      labels_BK = losses.smooth(labels_BK, self.loss_config.label_smoothing)
    return losses.LOSSES[self.loss_config.name](logits_BK.astype(jnp.float32), labels_BK)

  def metrics(self, output: Any, batch: Batch, loss_B: Array) -> Batch:
    """What evaluation needs of each example, as arrays over B.

    `rank` counts the classes that do not score less than the true one, itself apart: top-k is
    rank < k, so ties count against the model, and so do scores that are no numbers.
    """
    logits_BK = output.logits_BK.astype(jnp.float32)
    label_B1 = jnp.maximum(batch['label'], 0)[:, None]
    true_B1 = jnp.take_along_axis(logits_BK, label_B1, axis=1)
    return {
      'loss': loss_B,
      'prediction': jnp.argmax(logits_BK, axis=-1).astype(jnp.int32),
      'rank': jnp.sum(~(logits_BK < true_B1), axis=-1).astype(jnp.int32) - 1,
      'confidence': jnp.max(jax.nn.softmax(logits_BK), axis=-1),
    }


@dataclass(frozen=True)
class Distillation(Classification):
  """Classification beside a teacher, in training (DeiT, arXiv:2012.12877 section 4).

  The teacher sees the same augmented images, normalised as it was trained. A distillation head
  learns from it and the other head from the labels, which alone are smoothed; a model with one
  head learns from both.
  """

  teacher: Any
  teacher_mean: tuple[float, ...]
  teacher_std: tuple[float, ...]

  def inputs(
    self, batch: Batch, key: Array | None, teacher_variables: Any = None
  ) -> tuple[Array, Targets]:
    """Likewise; with a key the targets hold the logits of `teacher` with `teacher_variables`."""
    if key is None:
      return super().inputs(batch, key)
    images_BHWC, labels_BK = self.augmented(batch, key)
    seen_BHWC = augment.normalise(images_BHWC, self.teacher_mean, self.teacher_std)
    teacher_BK = self.teacher.apply(teacher_variables, seen_BHWC, train=False).logits_BK
    return augment.normalise(images_BHWC, self.mean, self.std), Targets(labels_BK, teacher_BK)

  def loss(self, output: Any, targets: Targets, train: bool) -> Array:
    """loss_B: (1 - alpha) of the labels' and alpha of the teacher's; the labels' to evaluate."""
    if targets.teacher_BK is None:
      return super().loss(output, targets, train)
    distill, logits_BK = self.loss_config.distill, output.distill_logits_BK
    logits_BK = output.logits_BK if logits_BK is None else logits_BK
    if distill.kind == 'hard':
      teacher_B = losses.hard_distillation(logits_BK, targets.teacher_BK)
    else:
      teacher_B = losses.soft_distillation(logits_BK, targets.teacher_BK, distill.tau)
    label_B = self.label_loss(output.logits_BK, targets, train)
    return (1 - distill.alpha) * label_B + distill.alpha * teacher_B

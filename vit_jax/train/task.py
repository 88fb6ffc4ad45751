"""A task: what a model is trained on. Pure functions: drawn, inputs, loss, metrics, weights.

`drawn` adds a step's random numbers to the global batch before it is split into micro-batches, of
which `inputs` makes what the model sees. A task may read variables that no step changes, such as a
teacher's: `inputs` takes them last, and they reach the step as an argument.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vit_jax import config, losses
from vit_jax.data import augment
from vit_jax.errors import UserError
from vit_jax.models.output import Pair, shifted
from vit_jax.models.texts import PAD

Array = jax.Array
Batch = dict[str, Any]  # arrays, and of what `drawn` adds mappings of arrays

# What mixing reads of the row that is mixed in.
PARTNER = 'image', 'label', 'soft_label', 'mask', 'draws'


class Targets(NamedTuple):
  """Labels as distributions, and a teacher's logits if there is one."""

  labels_BK: Array
  teacher_BK: Array | None = None


@dataclass(frozen=True)
class Classification:
  """One label per image."""

  num_classes: int
  loss_config: config.Loss
  augment: config.Augment
  mean: tuple[float, ...]
  std: tuple[float, ...]

  def __post_init__(self):
    weights = self.loss_config.class_weights
    if weights and len(weights) != self.num_classes:
      raise UserError(
        f'config.loss.class_weights has {len(weights)} numbers, but the data has '
        f'{self.num_classes} classes; give one for each'
      )

  def weights(self, batch: Batch) -> Array:
    """weight_B: what the losses of each example are a sum of; 0 if it is masked."""
    return batch['mask'].astype(jnp.float32)

  def drawn(self, batch: Batch, key: Array) -> Batch:
    """The batch with the numbers that augment each row, and the partner that it is mixed with."""
    draws = augment.draw(key, batch['image'].shape, self.augment)
    if not draws:
      return batch
    batch = {**batch, 'draws': draws}
    if not self.augment.mixes:
      return batch
    read = {name: batch[name] for name in PARTNER if name in batch}
    return {**batch, 'partner': augment.pair(read)}

  def inputs(self, batch: Batch) -> tuple[Array, Targets]:
    """(images_BHWC float32, augmented and normalized; targets)."""
    images_BHWC, labels_BK = self._augmented(batch)
    return augment.normalize(images_BHWC, self.mean, self.std), Targets(labels_BK)

  def loss(self, output: Any, targets: Targets) -> Array:
    """loss_B with smoothed labels. Two heads count half each."""
    loss_B = self._label_loss(output.logits_BK, targets)
    if output.distill_logits_BK is None:
      return loss_B
    return (loss_B + self._label_loss(output.distill_logits_BK, targets)) / 2

  def metrics(self, output: Any, targets: Targets, loss_B: Array, mask_B: Array) -> Batch:
    """Sums over the examples of a step, without masked ones."""
    # A set of classes has several largest labels, of which any is right.
    labels_BK, decision_B1 = targets.labels_BK, jnp.argmax(output.logits_BK, -1, keepdims=True)
    label_B = jnp.take_along_axis(labels_BK, decision_B1, axis=-1)[:, 0]
    correct_B = (label_B == jnp.max(labels_BK, axis=-1)) & (label_B > 0)
    return {
      'loss': jnp.sum(loss_B * mask_B),
      'top1': jnp.sum(correct_B * mask_B),
      'examples': jnp.sum(mask_B),
    }

  def _augmented(self, batch: Batch) -> tuple[Array, Array]:
    """(images_BHWC in [0, 255], labels_BK)."""
    images_BHWC, labels_BK = self._example(batch)
    if not self.augment.mixes:
      return images_BHWC, labels_BK
    other = batch['partner']
    others_BHWC, others_BK = self._example(other)
    return augment.mix(
      images_BHWC, others_BHWC, labels_BK, others_BK, other['mask'], batch['draws']
    )

  def _example(self, batch: Batch) -> tuple[Array, Array]:
    """Likewise, before mixing."""
    labels_BK = batch.get('soft_label')
    if labels_BK is None:
      labels_BK = jax.nn.one_hot(batch['label'], self.num_classes)
    draws = batch.get('draws', {})
    images_BHWC = augment.apply(batch['image'], draws, self.augment, self.mean, self.std)
    return images_BHWC, labels_BK

  def _label_loss(self, logits_BK: Array, targets: Targets) -> Array:
    options = self.loss_config
    labels_BK = losses.smooth(targets.labels_BK, options.label_smoothing)
    weights_K = jnp.asarray(options.class_weights or 1.0, jnp.float32)
    return losses.LOSSES[options.name](logits_BK.astype(jnp.float32), labels_BK, weights_K)


@dataclass(frozen=True)
class Translation:
  """The next token of a sentence, given its source and the tokens before (teacher forcing)."""

  label_smoothing: float

  def weights(self, batch: Batch) -> Array:
    """weight_B: tokens of the targets, END included."""
    return jnp.sum(batch['target'] != PAD, axis=1).astype(jnp.float32)

  def drawn(self, batch: Batch, key: Array) -> Batch:
    """The batch: nothing is random."""
    return batch

  def inputs(self, batch: Batch) -> tuple[Pair, Array]:
    """(what the model reads, the tokens it predicts)."""
    return Pair(batch['source'], shifted(batch['target'])), batch['target']

  def loss(self, output: Any, target_BT: Array) -> Array:
    """loss_B, the sum over tokens."""
    loss_BT = losses.token_cross_entropy(output.logits_BTV, target_BT, self.label_smoothing)
    return jnp.sum(loss_BT, axis=1)

  def metrics(self, output: Any, target_BT: Array, loss_B: Array, mask_B: Array) -> Batch:
    """Sums over the tokens of a step."""
    real_BT = (target_BT != PAD) & (mask_B[:, None] > 0)
    right_BT = jnp.argmax(output.logits_BTV, axis=-1) == target_BT
    return {
      'loss': jnp.sum(loss_B * mask_B),
      'accuracy': jnp.sum((right_BT & real_BT).astype(jnp.float32)),
      'tokens': jnp.sum(real_BT.astype(jnp.float32)),
    }


@dataclass(frozen=True)
class Distillation(Classification):
  """Classification beside a teacher (DeiT, arXiv:2012.12877 section 4).

  The teacher sees the same augmented images, normalized as it was trained. A distillation head
  learns from it and the other head from the labels, which alone are smoothed; a model with one
  head learns from both.
  """

  teacher: Any
  teacher_mean: tuple[float, ...]
  teacher_std: tuple[float, ...]

  def inputs(self, batch: Batch, teacher_variables: Any = None) -> tuple[Array, Targets]:
    """Likewise; the targets hold the teacher's logits."""
    images_BHWC, labels_BK = self._augmented(batch)
    seen_BHWC = augment.normalize(images_BHWC, self.teacher_mean, self.teacher_std)
    teacher_BK = self.teacher.apply(teacher_variables, seen_BHWC, train=False).logits_BK
    return augment.normalize(images_BHWC, self.mean, self.std), Targets(labels_BK, teacher_BK)

  def loss(self, output: Any, targets: Targets) -> Array:
    """loss_B: (1 - alpha) of the labels' and alpha of the teacher's."""
    assert targets.teacher_BK is not None
    distill, logits_BK = self.loss_config.distill, output.distill_logits_BK
    assert distill is not None
    logits_BK = output.logits_BK if logits_BK is None else logits_BK
    if distill.kind == 'hard':
      teacher_B = losses.hard_distillation(logits_BK, targets.teacher_BK)
    else:
      teacher_B = losses.soft_distillation(logits_BK, targets.teacher_BK, distill.tau)
      if distill.kind == 'soft_mean':  # as facebookresearch/deit's `losses.py`
        teacher_B /= self.num_classes
    label_B = self._label_loss(output.logits_BK, targets)
    return (1 - distill.alpha) * label_B + distill.alpha * teacher_B

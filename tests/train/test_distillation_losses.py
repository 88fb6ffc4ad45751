"""The losses of learning from a teacher, by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from vit_jax import config, losses
from vit_jax.config import Augment, Distill, Loss
from vit_jax.train.task import Classification, Distillation, Targets

HALF = (0.5,) * 3


def test_hard_distillation_by_hand():
  logits_BK = np.log([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]).astype(np.float32)
  teacher_BK = np.array([[1.0, 5.0, 2.0], [0.0, -1.0, 3.0]], np.float32)
  np.testing.assert_allclose(
    losses.hard_distillation(logits_BK, teacher_BK), [math.log(4), -math.log(0.7)], rtol=1e-6
  )


def test_soft_distillation_by_hand():
  # At temperature 2 these logits are log(p): teacher (1/2, 1/2), student (1/4, 3/4).
  teacher_BK, logits_BK = np.zeros((1, 2), np.float32), 2 * np.log([[0.25, 0.75]], dtype=np.float32)
  expected = 4 * (0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))
  np.testing.assert_allclose(
    losses.soft_distillation(logits_BK, teacher_BK, 2.0), [expected], rtol=1e-6
  )
  np.testing.assert_allclose(losses.soft_distillation(teacher_BK, teacher_BK, 2.0), [0], atol=1e-7)


def test_soft_distillation_of_huge_logits_is_finite():
  far, near = np.array([[1e4, -1e4]], np.float32), np.array([[-1e4, 1e4]], np.float32)
  assert losses.soft_distillation(near, far, 1.0) == pytest.approx(2e4)


def distill(kind: str, **keys) -> Distill:
  return Distill(
    kind, teacher=config.Model.from_keys({'name': 'Ti/16'}), teacher_weights='x', **keys
  )


def task_of(distill: Distill, **loss) -> Distillation:
  return Distillation(2, Loss(distill=distill, **loss), Augment(), HALF, HALF, None, HALF, HALF)


LABELS = np.array([[1.0, 0.0]], np.float32)
TEACHER = np.array([[0.0, 2.0]], np.float32)  # decides against the label
CLS, DIST = (np.log([[p, 1 - p]], dtype=np.float32) for p in (0.8, 0.3))


def output(logits_BK, distill_logits_BK=None):
  return SimpleNamespace(logits_BK=logits_BK, distill_logits_BK=distill_logits_BK)


def test_two_heads_learn_from_label_and_teacher():
  """Each from its own; label smoothing touches the label only."""
  task = task_of(distill('hard', alpha=0.25), label_smoothing=0.2)
  loss_B = task.loss(output(CLS, DIST), Targets(LABELS, TEACHER))
  label = -0.9 * math.log(0.8) - 0.1 * math.log(0.2)
  np.testing.assert_allclose(loss_B, [0.75 * label - 0.25 * math.log(0.7)], rtol=1e-5)


def test_one_head_learns_from_both():
  loss_B = task_of(distill('hard')).loss(output(CLS), Targets(LABELS, TEACHER))
  np.testing.assert_allclose(loss_B, [-0.5 * math.log(0.8) - 0.5 * math.log(0.2)], rtol=1e-5)
  soft_B = task_of(distill('soft', alpha=0.9, tau=3.0)).loss(output(CLS), Targets(LABELS, TEACHER))
  q = np.array([0.8, 0.2]) ** (1 / 3)
  p, q = np.exp([0, 2 / 3]) / np.exp([0, 2 / 3]).sum(), q / q.sum()
  np.testing.assert_allclose(
    soft_B, [-0.1 * math.log(0.8) + 0.9 * 9 * np.sum(p * np.log(p / q))], rtol=1e-5
  )


def test_without_a_teacher_two_heads_learn_from_the_label_alike():
  plain = Classification(2, Loss(), Augment(), HALF, HALF)
  np.testing.assert_allclose(
    plain.loss(output(CLS, DIST), Targets(LABELS)),
    [-0.5 * math.log(0.8) - 0.5 * math.log(0.3)],
    rtol=1e-5,
  )

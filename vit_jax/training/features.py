"""Judging features during training on data sets of their own: config.evals.

Every example goes through the model once, on the mesh that trains; the methods are those of
`vit_jax transfer`, on the host of process 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vit_jax.errors import UserError
from vit_jax.training.setup import Setup
from vit_jax.transfer import suite
from vit_jax.transfer.extract import Features

Judged = dict[str, dict[str, float]]  # {eval: {metric: accuracy in [0, 1]}}


def judge(
  setup: Setup,
  variables: Any,
  before_batch: Callable[[], None] = lambda: None,
  before_method: Callable[[], None] = lambda: None,
  share: Callable[[Callable[[], Any]], Any] = lambda make: make(),
) -> Judged:
  """{eval: {'5-shot': ..., 'knn-20': ..., 'linear': ...}}, the same on every process.

  Args:
    before_batch: what it raises ends the evaluation.
    before_method: called before the methods judge, which takes as long as it takes.
    share: what its function returns on process 0, on every process.

  Raises:
    UserError: the training examples allow none of the methods.
  """
  results = {}
  for name, its in setup.experiment.evals.items():
    train, test = (
      Features(*setup.features(variables, its.data, split, before_batch))
      for split in (its.train, its.test)
    )

    def accuracies(train: Any = train, test: Any = test, its: Any = its) -> dict[str, float]:
      return {
        verdict.metric: float(np.mean(verdict.top1s[0]))
        for method in its.methods
        for verdict in suite.verdicts(train, [test], method)
      }

    before_method()
    results[name] = share(accuracies)
    if not results[name]:
      raise UserError(
        f'config.evals.{name}: {its.data}, split {its.train!r}, has too few examples '
        f'of a class for {" and ".join(its.methods)}; give it a larger split'
      )
  return results

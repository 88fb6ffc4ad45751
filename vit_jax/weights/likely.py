"""Which models weights could be of, where their source does not say."""

import dataclasses
from typing import Any

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.weights import stored
from vit_jax.weights.stored import Stored

NAMED = 3  # at most


def likely(kept: Stored) -> list[str]:
  """Names of models that have these leaves; those whose usual options must change least."""
  assert kept.layout is not None
  changes: dict[str, int] = {}
  for name in models.all_names():
    if models.reads_text(name):
      continue
    usual = models.options_of(name)
    try:
      # Shapes take a second: first what is known at once.
      if kept.size('encoder/blocks/mlp/up/kernel', 'D') != _width(usual):
        continue
      model = stored.build(kept, name)
      shape = *model.inputs.size, len(model.inputs.mean)
      stored.fit(kept, models.variable_shapes(model, shape), model)
    except UserError:
      continue
    now, before = dataclasses.asdict(model.options), dataclasses.asdict(usual)
    changes[name] = sum(now[key] != before[key] for key in before)
  least = min(changes.values(), default=0)
  return [name for name, count in changes.items() if count == least][:NAMED]


def _width(options: Any) -> int:
  """Of the tokens that an MLP sees; 0 of networks without one."""
  return options.width if hasattr(options, 'mlp') else 0

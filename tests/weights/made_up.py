"""Random variables for any model, from its shapes alone."""

from pathlib import Path
from typing import Any

import numpy as np

from vit_jax import models
from vit_jax.layouts import layout, registry
from vit_jax.models import Inputs
from vit_jax.trees import flatten_variables, unflatten_variables
from vit_jax.weights import sources, stored

TINY = dict(width=32, depth=2, heads=2, mlp=64)


def shapes(model: Any, size: int | tuple[int, int]) -> dict[str, Any]:
  height, width = (size, size) if isinstance(size, int) else size
  return models.variable_shapes(model, (height, width, 3))


def random_variables(model: Any, size: int | tuple[int, int], seed: int = 0) -> dict[str, Any]:
  """Every leaf random, LayerScale and biases too; running variances positive."""
  rng, out = np.random.default_rng(seed), {}
  for name, leaf in flatten_variables(shapes(model, size)).items():
    value = rng.normal(size=leaf.shape).astype(np.float32) * 0.1
    if name.endswith(('scale', 'scale1', 'scale2', 'var')):
      value = 1 + value.clip(-0.5, 0.5)
    out[name] = value
  return unflatten_variables(out)


def tiny(
  name: str = 'Ti/8',
  num_classes: int = 5,
  size: int | tuple[int, int] = 16,
  seed: int = 0,
  **options: Any,
) -> tuple[Any, dict[str, np.ndarray]]:
  """(a small model, its random leaves by our names)."""
  model = models.build(name, num_classes, **TINY | options)
  return model, flatten_variables(random_variables(model, size, seed))


def read(path: Path, cache: Path) -> stored.Stored:
  return sources.read(str(path), 'last', cache)


def fit(
  found: stored.Stored, model: Any, size: int | tuple[int, int]
) -> tuple[dict[str, Any], str]:
  """(variables, the line) of stored weights in a model for images of this size."""
  sides = (size, size) if isinstance(size, int) else size
  return stored.fit(found, shapes(model, size), model.clone(inputs=Inputs(sides)))


def check_published(
  published: dict[str, tuple[int, ...]], model: Any, size: int, word: str
) -> None:
  """Reads a tree of these names and shapes; nothing may be left, and it comes back as it was."""
  rng = np.random.default_rng(0)
  leaves = {name: rng.normal(size=shape).astype(np.float32) for name, shape in published.items()}
  assert registry.recognize(leaves, 'a file') == (word, '')
  wanted = {name: leaf.shape for name, leaf in flatten_variables(shapes(model, size)).items()}
  table = registry.LAYOUTS[word]
  reading = layout.to_ours(table, leaves, wanted)
  assert not reading.faults and not reading.left
  assert {name: leaf.shape for name, leaf in reading.ours.items()} == wanted
  back = layout.to_published(table, reading.ours)
  assert set(back) == set(leaves)
  assert all(np.array_equal(back[name], leaves[name]) for name in leaves)

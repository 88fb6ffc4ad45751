"""Weights to start from: a run folder, a file, an address, or a name in the AugReg index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_jax.errors import UserError
from vit_jax.training.checkpoint import latest_weights
from vit_jax.weights import augreg, load
from vit_jax.weights.adapt import Source, adapt
from vit_jax.weights.fetch import is_remote


def pretrained(
  source: str, model: Any, variables: Mapping[str, Any], image_size: tuple[int, int], data_dir: Path
) -> tuple[dict[str, Any], str]:
  """(variables of `model` from `source`, one line that says what was done).

  Args:
    source: a run folder, of which the newest checkpoint is taken, or what `load.read` takes.
    variables: freshly initialised: a head of other classes is kept from here.
    image_size: (H, W) of the images the model is for.
    data_dir: where files from elsewhere are cached.

  Raises:
    UserError: there is no such source, or it does not fit the model.
  """
  grid = model.grid(image_size)
  path = Path(source).expanduser()
  if path.is_dir():
    loaded, old_size, where = latest_weights(path)
    out, line = adapt(
      load.flat_variables(loaded),
      load.flat_variables(variables),
      Source(where, model.grid(old_size)),
      grid,
    )
    return load.tree_variables(out), line
  if not (is_remote(source) or source.startswith(augreg.PREFIX)):
    if not Path(source.partition('#')[0]).expanduser().exists():
      raise UserError(f'there is no run folder or file {source} to start from')
  published = load.read(source, data_dir / 'weights')
  out, line = load.fit(published, variables, grid)
  told = load.traits(model)
  other = [
    f'{option}={value}'
    for option, value in published.traits.items()
    if told.get(option, value) != value
  ]
  return out, f'{line}; trained with model.{", model.".join(other)}' if other else line

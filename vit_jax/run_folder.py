"""A run folder: the recipe it was made with, and whether another one would go on in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_jax.config import Experiment, resolve
from vit_jax.errors import UserError

# Keys that change how a run is watched and where it runs, not what it computes.
FREE_TO_CHANGE = (
  'mesh',
  'limits',
  'log',
  'checkpoint',
  'evaluate',
  'evals',
  'eval_batch_size',
  'baseline',
  'data.threads',
  'data.prefetch',
  'data.cache',
  'data.dir',
  'data.evals',
  'data.predict',
  'data.on_bad_record',
)


def recipe_of(workdir: Path) -> dict[str, Any]:
  """The recipe that a run folder was made with (its config.json), for `resolve`."""
  path = workdir / 'config.json'
  if not path.is_file():
    raise UserError(f'{workdir} is not a run folder: it has no config.json')
  try:
    values = json.loads(path.read_text())
    for group, key in ((values, 'model'), (values['loss'].get('distill', {}), 'teacher')):
      if key in group:
        group[key] = {'name': group[key]['name'], **group[key]['options']}
  except (ValueError, LookupError, TypeError, AttributeError):
    raise UserError(
      f'{path} is damaged: it does not hold the recipe of a run; put a copy of it there'
    ) from None
  return values


def from_run(workdir: Path) -> Experiment:
  """The resolved experiment that a run folder was made with."""
  return resolve(recipe_of(workdir))


def differences(old: Experiment, new: Experiment) -> list[str]:
  """One line for each key that differs and decides the result: a run cannot go on across one."""

  def walk(a: Any, b: Any, where: str) -> list[str]:
    if where in FREE_TO_CHANGE or a == b:
      return []
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      keys = sorted({*a, *b})
      return [
        line
        for key in keys
        for line in walk(a.get(key), b.get(key), f'{where}.{key}' if where else key)
      ]
    return [f'config.{where} was {a!r} and is now {b!r}']

  # Through JSON, so that tuples and lists compare alike.
  return walk(json.loads(old.to_json()), json.loads(new.to_json()), '')


def check_same(workdir: Path, x: Experiment) -> None:
  """Raises a UserError unless the run in `workdir` is of this experiment."""
  changed = differences(from_run(workdir), x)
  if changed:
    raise UserError(
      f'{workdir} holds another run: {"; ".join(changed[:4])}; choose another '
      '--workdir, or delete that folder to start again'
    )

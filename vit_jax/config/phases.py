"""Phases: a recipe whose key `then` has the keys that differ in the next one.

    c.then = dict(name='deit3_B_16_224', epochs=20.0, data=dict(image_size=(224, 224)), ...)

All else is as in the phase before, but for the keys `OWN`. `then` may have a `then` itself.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax.errors import UserError
from vit_jax.fields import merged

# Keys that a phase does not take from the one before it, with what they are where it has none.
OWN: Mapping[str, Any] = {
  'name': '',
  'steps': 0,
  'epochs': 0.0,
  'examples': 0,
  'init_from': '',
}
# What a run folder holds by these names.
TAKEN = ('checkpoints', 'damaged', 'figures', 'predictions', 'replaced', 'translations')


def inherit(values: Mapping[str, Any], then: Mapping[str, Any], kind: Any) -> dict[str, Any]:
  """The keys of the next phase, of a recipe with `values` (without `then`).

  Raises:
    UserError: it has no name, or its `init_from` is not of a phase.
  """
  then = {'init_from': 'last', **{k: v for k, v in then.items() if k != 'init_from' or v}}
  if not then.get('name'):
    raise UserError("config.name is missing: it names the phase's run folder")
  if then['init_from'] not in ('last', 'best'):
    raise UserError(
      f"config.init_from is {then['init_from']!r}; a phase begins with 'last' or 'best' of the one "
      'before'
    )
  return merged({key: value for key, value in values.items() if key not in OWN}, then, kind)


def check(x: Any, then: Any, later: Sequence[Any]) -> None:
  """Raises a UserError if phase `then` does not fit `x` before it, or a name does not.

  Args:
    later: `then` and the phases after it.
  """
  name, others = then.name, [phase.name for phase in later[1:]]
  if not re.fullmatch(r'[\w+=-][\w.+=-]*', name) or name in (*TAKEN, x.name, *others):
    raise UserError(
      f'config.name is {name!r}; it names a folder in the run folder, unlike that of any other '
      'phase, such as ' + repr(f'{x.name}_fine_tuned')
    )
  if then.model.name != x.model.name:
    raise UserError(
      f'config.model.name is {then.model.name!r}, but the phase before trains {x.model.name}; '
      'leave it out'
    )
  if then.init_from == 'best' and not x.checkpoint.best:
    raise UserError("config.init_from is 'best', but the phase before has no checkpoint.best")

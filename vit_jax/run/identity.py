"""What a run is: its recipe, its data, its classes, its length.

A start that resumes is compared with `RUN/identity.json`, which is written when a run begins;
before the first step all processes of a run are compared with each other.
"""

import dataclasses
import hashlib
import json
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import vit_jax
from vit_jax.config import Experiment
from vit_jax.data.identity import label_map
from vit_jax.errors import UserError, first_few
from vit_jax.fields import flat, plain
from vit_jax.parallel.processes import Processes
from vit_jax.paths import Place
from vit_jax.redaction import redacted
from vit_jax.run.files import is_number, read_object

# Keys that change where a run runs and how it is watched, not what it computes.
FREE_TO_CHANGE = (
  'mesh',
  'limits',
  'log',
  'checkpoint',
  'then',
  'evals',
  'eval_batch_size',
  'data.threads',
  'data.prefetch',
  'data.cache',
  'data.dir',
  'data.on_bad_record',
)
# Keys that may differ between the processes of a run, because they depend on the host.
PER_PROCESS = ('limits', 'log', 'data.threads', 'data.prefetch', 'data.cache', 'data.dir')
SAME_VERSION = ('vit_jax', 'jax', 'jaxlib')  # in all processes of a run

log = logging.getLogger(__name__)


def versions() -> dict[str, str]:
  """Versions of the packages that decide the numbers of a run."""
  packages = {name: metadata.version(name) for name in ('jax', 'jaxlib', 'flax', 'optax')}
  return {'vit_jax': vit_jax.__version__, **packages, 'python': platform.python_version()}


@dataclass(frozen=True)
class Identity:
  """What a run is beside its recipe. Digests are text, '' where there is nothing to digest."""

  class_names: tuple[str, ...]  # in the order of the labels
  num_examples: int  # of the training split
  data: str  # digest of the training split
  steps: int  # length of the run, fixed at its start unless the recipe asks for more
  # Digests of the data of each eval, by a name that says which data, such as 'test: folder, test':
  # an eval that the recipe moves to other data is another one.
  evals: Mapping[str, str] = field(default_factory=dict)
  weights: str = ''  # digest of the weights that training starts from
  vocabularies: str = ''  # digest of those of a translation run
  num_batches: int = 0  # of an epoch, if batches differ in their number of examples
  versions: Mapping[str, str] = field(default_factory=versions)

  def goes_on_as(
    self, now: Self, folder: Place, accept_data: bool = False, longer: bool = False
  ) -> Self:
    """The identity of this run if it resumes on the data that is there `now`.

    Args:
      accept_data: whether the examples, but not their classes, may have changed since the start.
      longer: whether the recipe now asks for another length, which must not be a shorter one.

    Raises:
      UserError: says what differs.
    """
    if self.class_names != now.class_names:
      check_classes(now.class_names, self.class_names)
      raise UserError(
        f'{folder} was trained on the same classes in another order, which the training data has '
        'changed; restore that order, or choose another --workdir'
      )
    if self.vocabularies != now.vocabularies:
      raise UserError(
        f'{folder} was trained with other vocabularies than its vocabularies.json or its training '
        'data now give; restore them, or choose another --workdir'
      )
    changed = []
    if self.data != now.data:
      changed.append(
        f'it had {self.num_examples} training examples (digest {self.data[:12]}), and now has '
        f'{now.num_examples} ({now.data[:12]})'
      )
    changed += [
      f'the data of eval {name!r} has changed'
      for name, digest in now.evals.items()
      if self.evals.get(name, digest) != digest
    ]
    if changed and not accept_data:
      raise UserError(
        f'{folder} was trained on other data: {first_few(changed)}; restore the data, choose '
        'another --workdir, or go on with the data as it is now by --accept_data'
      )
    if longer and now.steps < self.steps:
      raise UserError(
        f'{folder} is a run of {self.steps} steps, and the recipe now means {now.steps}; a run can '
        'only become longer: choose another --workdir'
      )
    if self.data == now.data and self.steps != now.steps and not longer:
      raise UserError(
        f'{folder} is a run of {self.steps} steps, and the recipe now means {now.steps}; choose '
        'another --workdir, or a longer run by config.epochs'
      )
    for name in SAME_VERSION:
      then, today = self.versions.get(name), now.versions.get(name)
      if then != today:
        log.warning('%s began with %s %s and goes on with %s', folder, name, then, today)
    return dataclasses.replace(
      self,
      steps=now.steps if longer else self.steps,
      num_examples=now.num_examples,
      num_batches=now.num_batches,
      data=now.data,
      evals={**self.evals, **now.evals},
    )


def read_identity(path: Path, faults: list[str]) -> Identity | None:
  """None if there is no such file or it is damaged, which is a fault."""
  values = read_object(path, faults)
  if not values:
    return None
  try:
    identity = Identity(**{**values, 'class_names': tuple(values['class_names'])})
    if is_number(identity.steps) and isinstance(identity.data, str):
      return identity
  except (KeyError, TypeError):
    pass
  faults.append(f'{path} is damaged: it does not hold the identity of a run')
  return None


def check_classes(names: Sequence[str], known: Sequence[str]) -> None:
  """Raises a UserError unless training data with classes `names` has the `known` ones of a run."""
  label_map(names, known, 'the training data')  # two classes may have one name
  has, wanted = set(names), set(known)
  faults = [f'the run has no class {name!r}' for name in names if name not in wanted]
  faults += [f'class {name!r} is missing' for name in known if name not in has]
  if faults:
    raise UserError(
      'the training data does not have the classes of the run, and labels are matched by class '
      f'name: {first_few(faults)}; name the classes as they were'
    )


def differences(old: Experiment, new: Experiment) -> list[str]:
  """One line for each key that decides the result and differs: a run cannot resume across one."""
  was, now = (redacted(flat(plain(x))) for x in (old, new))  # stored recipes hold no secrets
  return [
    f'config.{key} was {was.get(key)!r} and is now {now.get(key)!r}'
    for key in _differing(was, now)
    if not _below(key, FREE_TO_CHANGE)
  ]


def agree(here: Processes, x: Experiment, identity: Identity) -> None:
  """Raises a UserError on all processes of a run, which all call it, if they do not agree."""
  config = redacted(flat(plain(x), 'config'))
  free = [f'config.{key}' for key in PER_PROCESS]
  mine = {key: value for key, value in config.items() if not _below(key, free)} | flat(
    {
      'training data': f'{identity.num_examples} examples, digest {identity.data[:12]}',
      'evaluation data': identity.evals,
      'class': {str(k): name for k, name in enumerate(identity.class_names)},
      'starting weights': identity.weights[:12],
      'vocabularies': identity.vocabularies[:12],
      'length in steps': identity.steps,
      'version': {name: identity.versions[name] for name in SAME_VERSION},
    }
  )
  digest = hashlib.sha256(json.dumps(mine, sort_keys=True).encode()).hexdigest()
  if len(set(here.gather(digest))) == 1:
    return
  first, *others = here.gather(mine)
  faults = [
    f'process {index} has {key} {other.get(key)!r}, process 0 has {first.get(key)!r}'
    for index, other in enumerate(others, 1)
    for key in _differing(first, other)
  ]
  raise UserError(
    f'the processes of this run do not agree: {first_few(faults)}; start all of them with the '
    'same command, code and data'
  )


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  return [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]


def _below(key: str, groups: Sequence[str]) -> bool:
  return any(key == group or key.startswith(f'{group}.') for group in groups)

"""The phases of a recipe as run folders: the first is RUN, a later one RUN/NAME."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vit_jax.config import Experiment
from vit_jax.parallel.processes import Processes
from vit_jax.paths import Place, join, place
from vit_jax.remote.runs import training_folder
from vit_jax.run import Run
from vit_jax.train.domain import Opened
from vit_jax.train.trainer import Trainer


def folders(x: Experiment, workdir: Place) -> list[Place]:
  """The run folder of each phase, in order."""
  first = place(workdir)
  return [first, *(join(first, phase.name) for phase in x.phases[1:])]


def at(x: Experiment, workdir: Place, number: int, here: Processes) -> tuple[Experiment, Run]:
  """(what a phase trains, its folder); a later one begins with the weights of the one before."""
  places, phase = folders(x, workdir), x.phases[number]
  run = Run(training_folder(places[number], here.index))
  if not number:
    return phase, run
  best = phase.init_from == 'best'
  begins = f'{places[number - 1]}@best' if best else str(places[number - 1])

  def known() -> str:
    """As the run here has it, whose path may have been written otherwise."""
    there = Run(run.path)
    stored = there.experiment.init_from if there.exists else begins
    return stored if stored.endswith('@best') == best else begins

  return replace(phase, init_from=here.share(known)), run


def is_done(run: Run, phase: Experiment) -> bool:
  """Whether a phase has ended; raises a UserError if it was another one."""
  run = Run(run.place)  # of a copy, as it is in the store by now
  if not run.summary:
    return False
  run.check_same(phase)
  return True


def check_data(later: Sequence[Experiment], data_dir: Path, opened: Opened | None) -> None:
  """Finds now, not after days, that a later phase lacks its data or does not fit it.

  Raises:
    UserError: as `Trainer` does.
  """
  for phase in later:
    Trainer(phase, data_dir, opened=opened).identity()  # reads a few examples of each split

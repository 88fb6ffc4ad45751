"""`vit_jax transfer`: every model on every task, by every method."""

import itertools
import logging
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from vit_jax.errors import UserError
from vit_jax.evaluate.backbone import Pulse
from vit_jax.transfer import finetune, suite
from vit_jax.transfer.candidates import Candidate
from vit_jax.transfer.suite import TransferRow
from vit_jax.transfer.tasks import Task, open_task

LOG = logging.getLogger(__name__)


def transfer(
  judged: Sequence[Candidate],
  tasks: Sequence[Task],
  methods: Sequence[str],
  tuning: finetune.FineTuning,
) -> Iterator[list[TransferRow]]:
  """All rows so far, after each task of each model.

  Raises:
    UserError: a model, data or the recipe of fine-tuning, before anything is judged; or no method
      can be judged on any task.
    Interrupted: a training was stopped; the same call continues it.
  """
  if finetune.METHOD in methods:
    tuning.check(judged, tasks)
  opened = [open_task(task, tuning.data_dir) for task in tasks]
  rows: list[TransferRow] = []
  pulse = Bar()
  for candidate in judged:
    for task, data in zip(tasks, opened, strict=True):
      store = tuning.data_dir / 'features'
      found = suite.judge_task(candidate, task, data, methods, store, pulse)
      if finetune.METHOD in methods:
        found = itertools.chain(found, tuning.rows(candidate, task, data, pulse))
      for row in found:
        result = f'{row.method}, {row.setting}: {row.top1:.2f} % +- {row.spread:.2f} %'
        LOG.info(f'{row.model}, {row.task}: {result}')
        rows.append(row)
      yield rows
  if not rows:
    raise UserError(
      f'--methods {" ".join(methods)}: none of them can be judged on '
      f'{", ".join(task.name for task in tasks)}; try linear'
    )


class Bar(Pulse):
  """A progress bar of each pass over a split, on a terminal."""

  _bar: tqdm | None = None

  def begin(self, title: str, total: int) -> None:
    if self._bar is not None:
      self._bar.close()
    self._bar = tqdm(total=total, desc=title, unit='image', disable=None)

  def beat(self, count: int) -> None:
    if self._bar is not None:
      self._bar.update(min(count, self._bar.total - self._bar.n))

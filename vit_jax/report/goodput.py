"""Where the hours of a run went, from its event log `events.jsonl`, over all its starts.

Each second is counted once, in one of the `PHASES`. Goodput is `step` divided by wall time, from
the first event of the run to the last.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vit_jax.errors import UserError
from vit_jax.paths import Place
from vit_jax.run import Run
from vit_jax.tables import as_text, clock

PHASES = {
  'step': 'training that counts',
  'init': 'start and restore',
  'compile': 'the compiler',
  'data': 'waiting for data',
  'evaluate': 'evaluation',
  'save': 'saving',
  'upload': 'waiting for an upload',  # of a checkpoint to a store
  'lost': 'training that was repeated',  # because no checkpoint held it
  'down': 'not running',  # from the last event of one start to the next start
}
CLOCKS_APART = 0.01  # how far the parts may be from wall time, as a share of it


class Uploaded(NamedTuple):
  """Checkpoints that went to a store while the run trained."""

  count: int = 0
  size: int = 0  # bytes
  seconds: float = 0.0  # of uploading, most of it beside training

  @property
  def summary(self) -> str:
    rate = self.size / max(self.seconds, 1e-3) / 1e6
    checkpoints = f'{self.count} checkpoint{"s" if self.count > 1 else ""}'
    return f'{checkpoints}, {self.size / 1e9:.3g} GB in {clock(self.seconds)} ({rate:.3g} MB/s)'


@dataclass(frozen=True)
class Goodput:
  seconds: dict[str, float]  # of each phase
  wall: float  # seconds from the first event to the last, by the clock if it was not set back
  starts: int
  ended: bool  # the last start has recorded its end
  uploads: Uploaded

  @property
  def total(self) -> float:
    return sum(self.seconds.values())

  @property
  def goodput(self) -> float:
    return self.share(self.seconds['step'])

  def share(self, seconds: float) -> float:
    return seconds / self.wall if self.wall else 0.0

  @property
  def summary(self) -> str:
    starts = f'{self.starts} start{"s" if self.starts > 1 else ""}'
    return f'{self.goodput:.1%} of {clock(self.wall)}, {starts}'

  @property
  def parts(self) -> list[tuple[str, float, str]]:
    """(phase, share of wall time, hours and minutes) of each phase that took time."""
    return [
      (name, self.share(spent), clock(spent)) for name, spent in self.seconds.items() if spent
    ]

  @property
  def words(self) -> str:
    return ', '.join(f'{phase} {share:.1%}' for phase, share, _ in self.parts)


def read_goodput(run_dir: Path) -> Goodput | None:
  """The account of a run folder; None without an event log, or with an empty one."""
  events = Run(run_dir).events
  return account(events) if events else None


def account(events: Sequence[dict[str, Any]]) -> Goodput:
  """Adds up the events of a run, in order of time."""
  seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
  trained: list[tuple[float, float, float]] = []  # (from step, to step, seconds), not yet lost
  step, last, uploads = 0.0, events[0]['time'], Uploaded()
  for event in events:
    if event['event'] == 'start':
      seconds['down'] += max(event['time'] - last, 0.0)
      step = event['step']
      trained, lost = _rewind(trained, step)
      seconds['lost'] += lost
    elif event['event'] == 'spent':
      for phase, spent in event['seconds'].items():
        if phase != 'step':
          seconds[phase] = seconds.get(phase, 0.0) + spent
      trained.append((step, event['step'], event['seconds'].get('step', 0.0)))
      step = event['step']
    elif event['event'] == 'upload':
      count, size, took = uploads
      uploads = Uploaded(count + 1, size + event['bytes'], took + event['took'])
    last = event['time']
  seconds['step'] = sum(spent for _, _, spent in trained)
  wall = last - events[0]['time']
  if any(later['time'] < event['time'] for event, later in itertools.pairwise(events)):
    wall = sum(seconds.values())  # the clock was set back, and says nothing
  return Goodput(
    seconds,
    wall,
    starts=sum(event['event'] == 'start' for event in events),
    ended=events[-1]['event'] == 'end',
    uploads=uploads,
  )


def _rewind(
  trained: Sequence[tuple[float, float, float]], resumed: float
) -> tuple[list[tuple[float, float, float]], float]:
  """(training before the step resumed from, seconds of lost training after it)."""
  kept, lost = [], 0.0
  for begin, end, spent in trained:
    share = 1.0 if end <= resumed else max(resumed - begin, 0) / max(end - begin, 1)
    if share:
      kept.append((begin, min(end, resumed), spent * share))
    lost += spent * (1 - share)
  return kept, lost


def goodput(run_dirs: Sequence[Path]) -> tuple[str, list[dict[str, Any]]]:
  """(a table for each run as text, rows for a CSV file).

  Raises:
    UserError: a folder has no event log.
  """
  texts, rows = [], []
  for run_dir in run_dirs:
    spent, name = read_goodput(run_dir), Run(run_dir).place
    if spent is None:
      raise UserError(
        f'{name} has no events in events.jsonl; name a run folder that `vit_jax train` wrote'
      )
    texts.append(_as_text(name, spent))
    for phase, seconds in [*spent.seconds.items(), ('wall', spent.wall)]:
      share = f'{spent.share(seconds):.5f}'
      row = {'run': name, 'phase': phase, 'seconds': f'{seconds:.3f}', 'share_of_wall': share}
      rows.append(row)
  return '\n\n'.join(texts), rows


def _as_text(name: Place, spent: Goodput) -> str:
  head = f'{name}: goodput {spent.summary}'
  if not spent.ended:
    head += '; the last start has recorded no end'
  rows = [
    (f'  {name}', f'{share:.1%}', time, PHASES.get(name, '')) for name, share, time in spent.parts
  ]
  text = f'{head}\n{as_text((), rows, align="<>><")}'
  if spent.uploads.count:
    text += f'\n  uploaded beside it: {spent.uploads.summary}'
  if abs(spent.total - spent.wall) > CLOCKS_APART * spent.wall:
    text += f'\n  the parts add up to {clock(spent.total)}: a clock was set while the run was going'
  return text

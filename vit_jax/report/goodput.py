"""Where the hours of a run went, from its event log `events.jsonl`, over all its starts.

Each second is counted once: `init`, `compile`, `data`, `evaluate` and `save` as the run spent
them; `step`, training that counts; `lost`, training that was done again because no checkpoint
held it; `down`, from the last word of one start to the next (being killed without a word, and
waiting in a queue). Goodput is `step` over wall time: the first word of the run to its last.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from vit_jax.errors import UserError

PHASES = ('step', 'init', 'compile', 'data', 'evaluate', 'save', 'lost', 'down')
MEANINGS = {
  'step': 'training that counts',
  'init': 'start and restore',
  'compile': 'the compiler',
  'data': 'waiting for data',
  'evaluate': 'evaluation',
  'save': 'saving',
  'lost': 'training done again',
  'down': 'not running',
}
CLOCKS_APART = 0.01  # of wall time, that the parts may miss it by


@dataclass(frozen=True)
class Goodput:
  """Seconds by phase, and what they add up to."""

  seconds: dict[str, float]  # of each phase
  wall: float  # seconds from the first event to the last, by the clock
  starts: int
  ended: bool  # the last start has said how it ended

  @property
  def total(self) -> float:
    return sum(self.seconds.values())

  @property
  def goodput(self) -> float:
    return self.seconds['step'] / self.wall if self.wall else 0.0


def read_goodput(run_dir: Path) -> Goodput | None:
  """The account of a run folder; None where it has no event log, or an empty one."""
  path = run_dir / 'events.jsonl'
  events = _read_events(path.read_text(errors='replace')) if path.is_file() else []
  return account(events) if events else None


def account(events: Sequence[dict[str, Any]]) -> Goodput:
  """Adds up the events of a run, which are in the order of time."""
  seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
  trained: list[tuple[float, float, float]] = []  # (from step, to step, seconds), not lost so far
  step, last = 0.0, events[0]['time']
  for event in events:
    if event['event'] == 'start':
      seconds['down'] += event['time'] - last
      step = event['step']
      trained, lost = _rewind(trained, step)
      seconds['lost'] += lost
    elif event['event'] == 'spent':
      for phase, spent in event['seconds'].items():
        if phase != 'step':
          seconds[phase] = seconds.get(phase, 0.0) + spent
      trained.append((step, event['step'], event['seconds'].get('step', 0.0)))
      step = event['step']
    last = event['time']
  seconds['step'] = sum(spent for _, _, spent in trained)
  return Goodput(
    seconds,
    wall=last - events[0]['time'],
    starts=sum(event['event'] == 'start' for event in events),
    ended=events[-1]['event'] == 'end',
  )


def _rewind(
  trained: Sequence[tuple[float, float, float]], resumed: float
) -> tuple[list[tuple[float, float, float]], float]:
  """(what of the training lies before the step that was resumed from, seconds of the rest)."""
  kept, lost = [], 0.0
  for begin, end, spent in trained:
    if end <= resumed:
      kept.append((begin, end, spent))
      continue
    share = max(resumed - begin, 0) / (end - begin) if end > begin else 0.0
    if share:
      kept.append((begin, resumed, spent * share))
    lost += spent * (1 - share)
  return kept, lost


def _read_events(text: str) -> list[dict[str, Any]]:
  """The events of a log, without a line that a kill cut short."""
  events = []
  for line in text.splitlines():
    try:
      event = json.loads(line)
    except json.JSONDecodeError:
      continue
    if isinstance(event, dict) and {'event', 'time', 'step'} <= event.keys():
      events.append(event)
  return events


def write_goodput(run_dirs: Sequence[Path], csv_path: Path | None = None) -> str:
  """A table for each run as text; with `csv_path` also all of them as one CSV file.

  Raises:
    UserError: a folder has no event log, or the CSV file cannot be written.
  """
  accounts = {}
  for run_dir in run_dirs:
    spent = read_goodput(run_dir)
    if spent is None:
      raise UserError(
        f'{run_dir} has no events in events.jsonl; name a run folder that `vit_jax train` wrote'
      )
    accounts[run_dir] = spent
  if csv_path:
    try:
      with open(csv_path, 'w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['run', 'phase', 'seconds', 'share_of_wall'])
        for run_dir, spent in accounts.items():
          rows = [*spent.seconds.items(), ('wall', spent.wall)]
          writer.writerows(
            [run_dir, phase, f'{seconds:.3f}', f'{_share(seconds, spent):.5f}']
            for phase, seconds in rows
          )
    except OSError as error:
      raise UserError(f'--csv={csv_path} cannot be written ({error.strerror})') from None
  return '\n\n'.join(_table(run_dir, spent) for run_dir, spent in accounts.items())


def _table(run_dir: Path, spent: Goodput) -> str:
  lines = [
    f'{run_dir}: goodput {spent.goodput:.1%} of {clock(spent.wall)}, '
    f'{spent.starts} start{"s" if spent.starts > 1 else ""}'
    + ('' if spent.ended else '; the last has not said how it ended')
  ]
  lines += [
    f'  {phase:10}{_share(seconds, spent):7.1%}  {clock(seconds):>12}  '
    f'{MEANINGS.get(phase, "")}'.rstrip()
    for phase, seconds in spent.seconds.items()
    if seconds
  ]
  if abs(spent.total - spent.wall) > CLOCKS_APART * spent.wall:
    lines.append(f'  the parts add up to {clock(spent.total)}: a clock was set while the run ran')
  return '\n'.join(lines)


def bar(spent: Goodput) -> str:
  """The account as one stacked bar, in HTML for report.html."""
  parts = [(phase, _share(seconds, spent)) for phase, seconds in spent.seconds.items() if seconds]
  pieces = ''.join(
    f'<span class="{escape(phase)}" style="width:{100 * share:.2f}%"></span>'
    for phase, share in parts
  )
  items = ''.join(
    f'<li class="{escape(phase)}">{escape(phase)} {share:.1%} '
    f'<small>{clock(spent.seconds[phase])}</small></li>'
    for phase, share in parts
  )
  words = ', '.join(f'{phase} {share:.1%}' for phase, share in parts)
  return (
    f'<h2>Where the hours went</h2>\n<p class="note">Goodput {spent.goodput:.1%} of '
    f'{clock(spent.wall)}, {spent.starts} start{"s" if spent.starts > 1 else ""}</p>\n'
    f'<div class="goodput" role="img" aria-label="Time by phase: {escape(words)}">{pieces}'
    f'</div>\n<ul class="goodput-key">{items}</ul>'
  )


def clock(seconds: float) -> str:
  """12.3 s, 4 min 05 s, 3 h 07 min."""
  if seconds < 60:
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f'{minutes} min {rest:02} s'
  hours, minutes = divmod(round(seconds / 60), 60)
  return f'{hours:,} h {minutes:02} min'


def _share(seconds: float, spent: Goodput) -> float:
  return seconds / spent.wall if spent.wall else 0.0

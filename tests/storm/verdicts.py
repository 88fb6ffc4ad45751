"""What a storm tries, what came of it, and the table of its verdicts."""

import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.fleet import Life, Nursery

SEED = int(os.environ.get('STORM_SEED', '0'))
ONLY = os.environ.get('STORM_ONLY', '')  # a pattern of names of cases; others are left out
VERDICTS = ('right', 'sentence', 'traceback', 'hang', 'silent')
BAD = VERDICTS[2:]
PREFIX = 'vit_jax: '
LIMIT = 60.0  # seconds for a command
MEMORY = 2e9  # bytes that a command may hold
SECRET = 'http://user:pw@127.0.0.1:9/x?token=t0k'
SHOWN = ('launch', 'sweep')  # commands that print the command line as it was given


class Outcome(NamedTuple):
  """How a command ended; `code` is None if it had to be killed."""

  code: int | None
  out: str
  err: str
  peak: int  # bytes
  folder: Path  # in which it ran


class Case(NamedTuple):
  """One thing to try.

  Attributes:
    name: what is tried, printed if it fails.
    argv: of the command.
    expects: 'right' (it must work), 'sentence' (it must be refused), or 'either'.
    check: complains of a result that is wrong; '' if it is right.
    begin: makes what the command reads.
    plant: faults from within, as in tests/worker.py.
    absent: a file that a refused command must not have come to write.
  """

  name: str
  argv: Sequence[str]
  expects: str = 'either'
  check: Callable[[Outcome], str] = lambda outcome: ''
  begin: Callable[[], None] = lambda: None
  limit: float = LIMIT
  env: dict[str, str] = {}
  plant: dict[str, Any] = {}
  absent: Path | None = None


def generator(part: str) -> random.Random:
  """The random numbers of a part, the same for a seed whatever other parts draw."""
  return random.Random(f'{SEED} {part}')


def drawn(cases: Sequence[Case], count: int, part: str) -> list[Case]:
  """`count` of the cases, in their order."""
  chosen = generator(f'{part} {count}').sample(range(len(cases)), min(count, len(cases)))
  return [cases[i] for i in sorted(chosen)]


def sentences(err: str) -> list[str]:
  """The sentences of a refusal; progress that was shown before it is left out."""
  lines = [line.rpartition('\r')[2] for line in err.splitlines()]
  first = next((i for i, line in enumerate(lines) if line.startswith(PREFIX)), len(lines))
  return [line for line in lines[first:] if line.strip()]


def judge(case: Case, outcome: Outcome) -> tuple[str, str]:
  """(the verdict, why it is a bad one or '')."""
  code, err = outcome.code, outcome.err
  if code is None:
    return 'hang', f'still running after {case.limit:g} s'
  if code not in (0, 1, 2, 75) or 'Traceback (most recent' in err:
    frames = re.findall(r'File ".*?([^/"]+)", line (\d+), in (\w+)', err)[-3:]
    return 'traceback', f'exit code {code}: {err.strip().splitlines()[-1:]} at {frames}'
  if case.argv[:1] and case.argv[0] not in SHOWN and re.search('t0k|pw@', outcome.out + err):
    return 'silent', 'a secret is shown'
  if code in (1, 2):
    said = sentences(err)
    if len(said) != 1 or len(said[0]) < len(PREFIX) + 15:
      return 'traceback', f'exit code {code} and not one sentence but {len(said)}: {err[-1500:]}'
    if re.search(r'<(class|function|module|bound) |object at 0x', said[0]):
      return 'traceback', f'no plain sentence: {said[0]}'
    if case.expects == 'right':
      return 'silent', f'refused, though it is right: {said[0]}'
    if case.absent and case.absent.exists():
      return 'silent', f'refused too late: {said[0]}'
    return 'sentence', ''
  if case.expects == 'sentence':
    return 'silent', 'accepted'
  why = case.check(outcome)
  return ('silent', why) if why else ('right', '')


def run(case: Case, nursery: Nursery, folder: Path) -> Outcome:
  """Runs a command in a process of its own, which is killed at its limit."""
  case.begin()
  errors = folder / 'errors'
  errors.unlink(missing_ok=True)
  order = {'errors': str(errors), 'whole': True, 'env': case.env, 'cwd': str(folder)}
  order |= case.plant
  life = Life(nursery, folder, list(case.argv), plant={0: order})
  code = life.ended(case.limit)[0]
  err = errors.read_bytes().decode('utf-8', 'replace') if errors.exists() else ''
  return Outcome(code, life.log(0), err, life.peak(0), folder)


class Storm:
  """Runs cases and counts their verdicts."""

  def __init__(self, part: str, nursery: Nursery, folder: Path):
    self.part, self.counts, self.peak, self.largest = part, Counter(), 0, ''
    self.faults: list[str] = []
    self._nursery, self._folder = nursery, folder

  def ride(self, cases: Iterable[Case]) -> 'Storm':
    for case in cases:
      if not re.search(ONLY, case.name):
        continue
      outcome = run(case, self._nursery, self._folder)
      if outcome.peak > self.peak:
        self.peak, self.largest = (
          outcome.peak,
          f'{case.name}: {" ".join(map(ascii, case.argv))[:300]}',
        )
      self.note(case.name, *judge(case, outcome), argv=case.argv)
    return self

  def note(self, name: str, verdict: str, why: str = '', argv: Sequence[str] = ()) -> None:
    self.counts[verdict] += 1
    if verdict in BAD:
      words = ' '.join(map(ascii, argv))
      self.faults.append(f'{verdict}: {name}\n    {words[:600]}\n    {why}')
      print(f'[{self.part}] {self.faults[-1]}', flush=True)

  @property
  def row(self) -> str:
    counts = [sum(self.counts.values()), *(self.counts[verdict] for verdict in VERDICTS)]
    return ' | '.join(['', f'{self.part:14}', *(f'{n:9,}' for n in counts), '']).strip()

  def must_be_calm(self) -> None:
    """Prints the row of the table, and fails if a verdict is bad."""
    print(f'\n{HEADER}\n{self.row}', flush=True)
    if self.peak:  # of the parts that measure it
      print(f'peak memory {self.peak / 1e9:.2f} GB, of {self.largest}', flush=True)
    assert self.peak < MEMORY, f'{self.peak:,} bytes of memory, of {self.largest}'
    assert not any(self.counts[verdict] for verdict in BAD), (
      f'{len(self.faults)} faults (STORM_SEED={SEED}):\n' + '\n'.join(self.faults[:20])
    )


HEADER = ' | '.join(['', f'{"part":14}', *(f'{w:>9}' for w in ('tried', *VERDICTS)), '']).strip()

"""The table of kinds of faults in docs/reliability.md says what is there."""

import re
from pathlib import Path

import pytest

from tests.storm import hostile_images, kills, test_storm_processes, weight_files
from tests.storm import test_storm_command_lines as lines
from tests.storm import test_storm_images as images
from tests.storm import test_storm_run_folders as runs
from tests.storm.verdicts import SEED

ROOT = Path(__file__).parents[2]


def rows() -> list[tuple[str, str, str]]:
  """(kind, test, storm) of the table."""
  text = (ROOT / 'docs' / 'reliability.md').read_text().partition('## Kinds of faults')[2]
  cells = (line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('| '))
  return [(kind, test, storm) for kind, test, storm in cells][1:]


def test_the_tests_are_there():
  assert len(rows()) > 15
  for kind, tests, _ in rows():
    found = re.findall('`(.+?)::(.+?)`', tests)
    assert found, kind
    for path, name in found:
      assert f'def {name}(' in (ROOT / path).read_text(), (path, name)


@pytest.mark.storm
def test_the_cases_are_tried(world):
  assert SEED == 0
  cases = {
    'lines': lines.drawn_cases(lines.FULL, world),
    'runs': runs.drawn_cases(runs.FULL, world),
    'images': hostile_images.cases(world, images.EACH),
    'weights': weight_files.cases(world),
  }
  names = {part: [f'{case.name} {case.argv}' for case in found] for part, found in cases.items()}
  names |= {'processes': test_storm_processes.KINDS, 'kills': [*kills.COMMANDS]}
  tried = 0
  for kind, _, storm in rows():
    for part, words in re.findall(r'(\w+): ((?:`[^`]+`(?:, )?)+)', storm):
      if part == 'caches':  # which must be filled first, and are all tried
        continue
      for text in re.findall('`([^`]+)`', words):
        assert any(text in name for name in names[part]), (kind, part, text)
        tried += 1
  assert tried > 30

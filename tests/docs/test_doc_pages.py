"""What the pages say is right: their Python runs, and their commands are ones that we have."""

import re
import shlex
from argparse import ArgumentParser
from pathlib import Path

import pytest

from vit_jax import commands, config
from vit_jax.config.recipes import from_flags
from vit_jax.fields import type_of

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('launch/*.md')])
CODE = re.compile(r'^ *(?:\w.*&& )?(vit_jax [a-z]+ .*)$', re.MULTILINE)
SYNOPSIS = re.compile(r'\[.*?\]|\.\.\.|\||--help')


class Parsed(Exception):
  """Ends a command after its flags."""


@pytest.fixture
def parse(monkeypatch):
  """parse(words) -> (flags, the rest), as the command itself reads them."""
  read = ArgumentParser.parse_known_args

  def stop(parser, args=None, namespace=None):
    raise Parsed(*read(parser, args, namespace))

  def run(words):
    with pytest.raises(Parsed) as found:
      commands.main(words)
    return found.value.args

  monkeypatch.setattr(ArgumentParser, 'parse_known_args', stop)
  return run


def lines(page: Path) -> list[str]:
  """The commands that a reader can copy from the page."""
  found = CODE.finditer(re.sub(r'\\\n\s*', '', page.read_text()))
  whole = [re.split(r'\s+(?:#|>|&&)\s', match[1])[0] for match in found]
  return [line for line in whole if ' --' in line and not SYNOPSIS.search(line)]


def test_python_runs(readme_folder):
  blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'python.md').read_text(), re.DOTALL)
  assert len(blocks) > 3
  found: dict = {}
  exec(compile('\n'.join(blocks), 'python.md', 'exec'), found)
  assert found['output'].tokens_BND.ndim == 3 and found['maps'].stacks
  assert (readme_folder / 'model.safetensors').exists()


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_commands_are_ours(page, parse):
  for line in lines(page):
    args, rest = parse(shlex.split(line)[1:])
    keys = [word for word in rest if not word.startswith('--grid.')]
    updates = from_flags(keys)  # refuses what is no --config.KEY=VALUE
    name = getattr(args, 'config', None)
    if isinstance(name, str) and 'FILE' not in name and 'vit_jax compare' not in line:
      config.recipe(str(ROOT / name) if name.startswith('configs/') else name, updates)


@pytest.mark.parametrize('page', ['from_timm.md', 'from_big_vision.md'])
def test_keys_of_the_tables_are_ours(page):
  """The second column of each row has keys that can be set together."""
  rows, seen = (
    re.findall(r'^\|.*?[^\\]\|(.*?)\|', (ROOT / 'docs' / page).read_text(), re.MULTILINE),
    0,
  )
  for row in rows:
    keys = re.findall(r'`([a-z_]+(?:\.[A-Za-z_0-9]+)*)(?:=([^`]+))?`', row)
    keys = [
      (key, value)
      for key, value in keys
      if key.partition('.')[0] in config.Experiment.__annotations__
    ]
    for key, _ in keys:
      assert type_of(config.Experiment, key.split('.')) is not None, key
    given = from_flags([f'--config.{key}={value}' for key, value in keys if value])
    config.recipe(str(ROOT / 'configs' / 'vit_i1k.py') + ':B/16', given)
    seen += len(keys)
  assert seen > 20


def test_commands_are_found():
  assert sum(len(lines(page)) for page in PAGES) > 50

"""`vit_jax train --help` has every key of the schema, and says what it is."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest

from vit_jax import commands, config, models
from vit_jax.config import Duration, keys
from vit_jax.fields import flat, plain

EVALS = {'NAME': config.Eval()}, {'NAME': config.TranslationEval()}


def every_key() -> set[str]:
  """Those of the schema by another way: what stored recipes have."""
  x = config.Experiment()
  found = set()
  for data, evals in zip((x.data, config.PairData()), EVALS, strict=True):
    optim = replace(x.optim, groups={'NAME': config.Group(match='head')})
    found |= set(flat(plain(replace(x, data=data, evals=evals, optim=optim))))
  found |= {f'model.{name}' for name in models.option_types()}
  lengths = {field.name for field in fields(Duration)}
  found = {
    key if '.' not in key or key.rsplit('.')[-1] not in lengths else key.rpartition('.')[0]
    for key in found
  }
  return {key.removesuffix('.LENGTH') for key in found} | {'then'}


@pytest.fixture
def text(capsys) -> str:
  with pytest.raises(SystemExit) as end:
    commands.main(['train', '--help'])
  assert end.value.code == 0
  return capsys.readouterr().out


def test_help_has_every_key_with_a_word_on_it(text):
  listed = keys.all_keys()
  names = {
    f'{key.group.partition(",")[0]}.{key.name}'.removeprefix('config.').removesuffix('.LENGTH')
    for key in listed
  }
  assert every_key() <= names
  assert not [key for key in listed if not key.about]
  for key in listed:
    assert f'\n{key.group}\n' in text and f'\n  {key.name} ' in text
  assert max(map(len, text.splitlines())) <= keys.WIDTH


def test_defaults_are_those_of_the_schema():
  found = {(key.group, key.name): key.default for key in keys.all_keys()}
  assert found['config.optim', 'lr'] == '0.001' == f'{config.Optim().lr:g}'
  assert found['config.log', 'every.LENGTH'] == 'steps=50'
  assert found['config.model', 'width'] == 'of the name'


def test_help_needs_no_jax():
  code = (
    'import sys, atexit\n'
    'from vit_jax import commands\n'
    'atexit.register(lambda: print("slow:", sorted({"jax", "flax", "cv2"} & set(sys.modules))))\n'
    'commands.main(["train", "--help"])'
  )
  done = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
  assert done.stdout.splitlines()[-1] == 'slow: []'

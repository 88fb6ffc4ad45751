"""What may change below a translation run, and what is refused: vocabularies, data, evaluations."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.fleet import run_to_end
from tests.translations import (
  Undisturbed,
  command,
  files,
  own_data,
  refused,
  write_pairs,
  write_recipe,
)
from vit_jax import commands
from vit_jax.run import Run


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
  return write_pairs(tmp_path_factory.mktemp('pairs'))


@pytest.fixture(scope='module')
def recipe(folder, tmp_path_factory) -> Path:
  return write_recipe(tmp_path_factory.mktemp('recipe') / 'pairs.py', folder)


@pytest.fixture(scope='module')
def whole(recipe, nursery, tmp_path_factory) -> Undisturbed:
  return Undisturbed('rnn', recipe, nursery, tmp_path_factory.mktemp('rnn'))


@pytest.mark.parametrize('text', [None, '{"source": "junk"}'])
def test_lost_vocabularies_are_made_again(text, whole, recipe, nursery, tmp_path):
  run = whole.cut(tmp_path, 10)
  path = run / 'vocabularies.json'
  good = path.read_bytes()
  path.unlink()
  if text is not None:
    path.write_text(text)
  run_to_end(nursery, tmp_path / 'lives', command(recipe, run, 'rnn'))
  assert path.read_bytes() == good
  whole.assert_same(run)


def test_changed_training_data_is_accepted_with_the_vocabularies_of_the_run_alone(
  whole, folder, recipe, nursery, tmp_path, capsys
):
  run = whole.cut(tmp_path, 8)
  own = own_data(folder, run, tmp_path)
  good = (run / 'vocabularies.json').read_bytes()
  for side, word in (('src', 'new words here'), ('tgt', 'NEW')):
    with open(own / f'train.{side}', 'a') as file:
      file.write(word + '\n')
  argv = command(recipe, run, 'rnn', f'--config.data.name=pairs:{own}')
  before = files(run)
  error = refused(argv, capsys)
  assert '60 training examples' in error and '61' in error and '--accept_data' in error
  (run / 'vocabularies.json').write_text('')
  for more in ([], ['--accept_data']):
    assert 'vocabularies' in refused([*argv, *more], capsys)
  (run / 'vocabularies.json').write_bytes(good)
  assert files(run) == before
  out = run_to_end(nursery, tmp_path / 'lives', [*argv, '--accept_data'])
  assert 'train: 4 tokens are not in the vocabulary' in out
  assert (run / 'vocabularies.json').read_bytes() == good
  identity = Run(run).identity
  assert identity.num_examples == 61 and identity.steps == 10
  assert len(Run(run).vocabularies.source) == 4 + 8


def test_vocabularies_of_another_run_are_refused(whole, recipe, tmp_path, capsys):
  run = whole.cut(tmp_path, 10)
  path = run / 'vocabularies.json'
  keys = json.loads(path.read_text())
  path.write_text(json.dumps({'source': keys['target'], 'target': keys['source']}))
  before = files(run)
  error = refused(command(recipe, run, 'rnn'), capsys)
  assert 'vocabularies.json' in error and files(run) == before


def test_a_run_that_starts_from_another(whole, recipe, nursery, tmp_path, capsys):
  flags = f'--config.init_from={whole.path}@8', '--config.steps=2', '--config.optim.lr=0.0'
  argv = command(recipe, tmp_path / 'run', 'rnn', *flags)
  out = run_to_end(nursery, tmp_path / 'lives', argv)
  assert f'{whole.path} at step 8' in out
  old, _ = Run(whole.path).variables(8)
  new, _ = Run(tmp_path / 'run').variables()
  for leaf, wanted in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
    np.testing.assert_allclose(leaf, wanted, rtol=1e-6)
  assert Run(tmp_path / 'run').identity.weights
  wider = command(recipe, tmp_path / 'wide', 'rnn', *flags, '--config.model.width=32')
  assert 'another model' in refused(wider, capsys)


# Evaluation.


def evaluate(run: Path, *flags: str) -> list[str]:
  return ['evaluate', f'--workdir={run}', *flags]


def test_an_evaluation_gives_what_training_wrote(whole, nursery, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(whole.path, run)
  out = run_to_end(nursery, tmp_path / 'lives', evaluate(run))
  greedy = Run(run).evaluations[10]['test']
  assert greedy == whole.result[2]['test']
  assert f'chrf {greedy["chrf"]:.4f}' in out and 'source words' in out
  run_to_end(nursery, tmp_path / 'lives', evaluate(run, '--checkpoint=5'))
  (row,) = [row for row in whole.result[1] if row['step'] == 5 and 'test/loss' in row]
  earlier = Run(run).evaluations[5]['test']
  assert {f'test/{name}': value for name, value in earlier.items()}.items() <= row.items()
  run_to_end(nursery, tmp_path / 'lives', evaluate(run, '--config.evals.test.beam=4'))
  beam = Run(run).evaluations[10]['test']
  assert beam['loss'] == greedy['loss'] and beam['chrf'] != greedy['chrf']
  assert Run(run).config['evals']['test']['beam'] == 1


def test_an_evaluation_on_eight_devices_gives_that_of_one(whole, tmp_path, capsys):
  """Also where the rows of the run do not divide over the devices."""
  run = tmp_path / 'run'
  shutil.copytree(whole.path, run)
  config = json.loads((run / 'config.json').read_text())
  config['data']['row_multiple'] = 3
  (run / 'config.json').write_text(json.dumps(config))
  assert commands.main(evaluate(run)) == 0
  found, expected = Run(run).evaluations[10]['test'], whole.result[2]['test']
  assert found == pytest.approx(expected, rel=1e-5)


def test_data_may_move(whole, folder, recipe, nursery, tmp_path):
  run, moved = whole.cut(tmp_path, 4), tmp_path / 'moved'
  shutil.copytree(folder, moved)
  argv = command(recipe, run, 'rnn', f'--config.data.name=pairs:{moved}')
  run_to_end(nursery, tmp_path / 'lives', argv)
  whole.assert_same(run)


def test_changed_test_data_is_judged_where_the_user_says_so(whole, folder, tmp_path, capsys):
  shutil.copytree(whole.path, tmp_path / 'run')
  run = tmp_path / 'run'
  own = own_data(folder, run, tmp_path)
  lines = (own / 'test.tgt').read_text().splitlines()
  (own / 'test.tgt').write_text('\n'.join([*lines[:-1], 'A A A']) + '\n')
  before = files(run)
  assert '--accept_data' in refused(evaluate(run), capsys)
  assert files(run) == before
  assert commands.main(evaluate(run, '--accept_data')) == 0
  assert Run(run).evaluations[10]['test']['loss'] != Run(run).summary['test']['loss']


def test_a_key_that_decides_more_and_lost_vocabularies_are_told(whole, tmp_path, capsys):
  run = tmp_path / 'run'
  shutil.copytree(whole.path, run)
  error = refused(evaluate(run, '--config.data.row_multiple=16'), capsys)
  assert 'config.data.row_multiple was 8 and is now 16' in error
  (run / 'vocabularies.json').unlink()
  assert 'vocabularies.json' in refused(evaluate(run), capsys)

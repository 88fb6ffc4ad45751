"""Bad input to a translation run: one plain sentence, exit code 2, nothing lost.

Faults in keys are in tests/config/test_pairs_schema.py, in stored pairs in tests/data/, and of runs
that have begun in tests/train/test_translation_changes.py.
"""

from pathlib import Path

import pytest

from tests.data.made_up_pairs import write
from tests.fleet import run_to_end
from tests.translations import command, files, refused, write_pairs, write_recipe
from vit_jax import config, models, weights
from vit_jax.data.pairs import open_pairs
from vit_jax.data.vocabulary import vocabularies_of
from vit_jax.errors import UserError
from vit_jax.run import Run


@pytest.fixture
def folder(tmp_path) -> Path:
  return write_pairs(tmp_path / 'pairs')


@pytest.fixture
def train(folder, tmp_path):
  """(system, *flags) -> a command, whose run folder is tmp_path/run."""
  recipe = write_recipe(tmp_path / 'recipe.py', folder)
  return lambda system='rnn', *flags: command(recipe, tmp_path / 'run', system, *flags)


def change(path: Path, edit) -> None:
  lines = path.read_text().splitlines()
  edit(lines)
  path.write_text('\n'.join(lines) + '\n')


@pytest.mark.parametrize(
  'file, edit, words',
  [
    ('train.src', lambda lines: lines.insert(6, ''), ['train.src', '61', '60']),
    ('train.tgt', lambda lines: lines.pop(), ['train.tgt', '59', '60']),
    (
      'train.src',
      lambda lines: lines.__setitem__(6, ' \t '),
      ['train.src, line 7', 'empty source'],
    ),
    ('train.tgt', lambda lines: lines.__setitem__(0, ''), ['train.tgt, line 1', 'empty target']),
    ('test.src', lambda lines: lines.__setitem__(19, ''), ['test.src, line 20', 'empty source']),
    ('test.tgt', lambda lines: lines.append('A'), ['test.tgt', '21', '20']),
  ],
)
def test_a_fault_in_a_file_is_found_before_the_run_begins(
  file, edit, words, folder, train, tmp_path, capsys
):
  change(folder / file, edit)
  before = files(folder)
  error = refused(train(), capsys)
  assert all(word in error for word in words), error
  assert files(tmp_path / 'run') == {} and files(folder) == before


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--config.evals.test.split=tset'], ["'tset'", "'test' (20)"]),
    (['--config.data.train=trian'], ["'trian'", "'train' (60)"]),
    (['--config.data.name=pairs:nowhere'], ['nowhere is not a folder']),
    (['--config.data.name=pairs:', '--config.data.dir='], ['config.data.dir', 'pairs:DIR']),
    (['--config.data.name=number_word'], ["'number_word'", "'number_words'"]),
    (['--config.evals.test.data=revers'], ["'revers'", "'reverse'"]),
    (['--config.evals.test.kind=classify'], ['config.evals.test', 'translate']),
    (['--config.data.max_length=2', '--config.data.buckets=(2,)', '--config.data.train=train[2:4]'],
     ['data.max_length is 2']),
    (['--config.data.row_multiple=3'], ['config.data.row_multiple is 3', '8']),
    (['--config.mesh.fsdp=3'], ['8 devices']),
    (['--config.mesh.sequence=2'], ['config.mesh.sequence is 2']),
    (['--config.model.tied=all'], ["config.model.tied is 'all'"]),
    (['--config.data.image_size=(8, 8)'], ['config.data.image_size']),
    (['--config.augment.mixup=0.2'], ['config.augment']),
    (['--config.data.vocabulary=3'], ['config.data.vocabulary', '5']),
  ],
)  # fmt: skip
def test_a_key_that_does_not_fit_is_refused_before_the_run_begins(
  flags, words, folder, train, tmp_path, capsys
):
  # Of one size they would be tied after all.
  change(folder / 'train.tgt', lambda lines: lines.__setitem__(0, 'ANOTHER'))
  error = refused(train('rnn', *flags), capsys)
  assert all(word in error for word in words), error
  assert files(tmp_path / 'run') == {}


def test_long_sentences_and_unknown_words_are_said(folder, train, nursery, tmp_path):
  """Training leaves long ones out; an evaluation cuts them, and takes words that it never saw."""
  long = ' '.join('abcdefgh' * 2)
  for kind, more in ({'train.src': long, 'train.tgt': 'A', 'test.src': long}).items():
    change(folder / kind, lambda lines, more=more: lines.append(more))
  change(folder / 'test.tgt', lambda lines: lines.append('A NEVER SEEN'))
  out = run_to_end(nursery, tmp_path / 'lives', train('rnn', '--config.steps=2'))
  assert 'train: left out 1 of 61 pairs' in out and 'test: cut 1 of 21 pairs' in out
  assert 'test: 2 tokens are not in the vocabulary' in out
  run = Run(tmp_path / 'run')
  assert run.identity.num_examples == 61 and run.summary['examples'] == 60
  assert len(run.translations['test'].translations) == 21
  assert run.translations['test'].references[-1] == 'A NEVER SEEN'


# Runs of one kind where the other is asked for.


def begun(path: Path, values) -> Path:
  """The folder of a run that has only just begun."""
  Run(path).write_config(config.resolve(values))
  return path


def text_keys(folder: Path) -> dict:
  data = dict(kind='pairs', name=f'pairs:{folder}', tokens='words', vocabulary=0)
  return {'steps': 3, 'model': {'name': 'RNN-GRU', 'width': 16}, 'data': data}


def test_weights_to_start_from_that_are_no_translation_run(train, tmp_path, capsys):
  images = begun(tmp_path / 'images', {'steps': 3})
  (tmp_path / 'weights.npz').write_bytes(b'')
  for place, words in (
    (images, 'learns from images'),
    (tmp_path / 'nowhere', str(tmp_path / 'nowhere')),
    (tmp_path / 'weights.npz', str(tmp_path / 'weights.npz')),
  ):
    assert words in refused(train('rnn', f'--config.init_from={place}'), capsys)
    assert files(tmp_path / 'run') == {}


def test_a_run_to_start_from_with_other_vocabularies(folder, train, tmp_path, capsys):
  other = begun(tmp_path / 'other', text_keys(folder))
  argv = train('rnn', f'--config.init_from={other}')
  assert 'vocabularies' in refused(argv, capsys)  # it has none
  pairs = write(tmp_path / 'else', src=['x y', 'z'], tgt=['X', 'Z'])
  data = config.resolve(text_keys(pairs)).pairs
  Run(other).write_vocabularies(vocabularies_of(data, open_pairs(data, 'train', tmp_path)))
  assert 'vocabularies' in refused(argv, capsys)
  assert files(tmp_path / 'run') == {}


def test_a_translation_run_where_images_are_asked_for(folder, tmp_path, lenet_recipe, capsys):
  text = begun(tmp_path / 'text', text_keys(folder))
  before = files(text)
  with pytest.raises(UserError, match='translates sentences'):
    weights.open(text)
  for argv in (
    ['convert', f'--from={text}', f'--to={tmp_path / "out.npz"}'],
    ['transfer', f'--weights={text}', '--data=digits'],
    [
      'train',
      f'--config={lenet_recipe}',
      f'--workdir={tmp_path / "run"}',
      '--config.batch_size=16',
      '--config.eval_batch_size=16',
      f'--config.init_from={text}',
    ],
  ):
    assert 'translates sentences' in refused(argv, capsys)
  assert not (tmp_path / 'out.npz').exists()
  assert files(text) == before and files(tmp_path / 'run') == {}


def test_a_model_of_sentences_expects_no_images():
  with pytest.raises(UserError, match='translates sentences'):
    models.inputs_of('RNN-GRU')

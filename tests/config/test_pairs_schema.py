"""The schema of runs on sentences: round trips, flags, and nothing of images in them."""

import json

import pytest

from vit_jax import config
from vit_jax.config import PairData, TranslationEval
from vit_jax.errors import UserError
from vit_jax.fields import build

PAIRS = {
  'steps': 3,
  'model': {'name': 'RNN-GRU', 'width': 16},
  'data': {'kind': 'pairs', 'name': 'reverse', 'tokens': 'words', 'vocabulary': 0},
  'evals': {
    'test': {'kind': 'translate'},
    'beam': {'kind': 'translate', 'data': 'number_words', 'split': 'test[:9]', 'beam': 4},
  },
  'optim': {'schedule': 'noam', 'warmup': {'steps': 2}},
}
# Keys that only one kind of run has.
OF_IMAGES = ('augment', 'loss.distill', 'data.image_size', 'data.crop', 'data.mean', 'data.cache')
OF_PAIRS = ('data.buckets', 'data.tokens', 'data.vocabulary', 'data.row_multiple')


def with_keys(**keys):
  return {**PAIRS, **keys}


def data(**keys):
  return with_keys(data={**PAIRS['data'], **keys})


def has(tree, key: str) -> bool:
  for name in key.split('.'):
    if name not in tree:
      return False
    tree = tree[name]
  return True


def refusal(values) -> str:
  with pytest.raises(UserError) as error:
    config.resolve(values)
  assert '\n' not in str(error.value)
  return str(error.value)


def test_a_run_on_pairs_comes_back_from_json_and_from_its_changes():
  x = config.resolve(PAIRS)
  assert isinstance(x.data, PairData) and x.pairs is x.data
  assert all(isinstance(line, TranslationEval) for line in x.evals.values())
  assert config.resolve(json.loads(x.to_json())) == x
  assert config.resolve(json.loads(x.to_json())).to_json() == x.to_json()
  assert config.resolve(x.changes()) == x
  assert x.changes()['data'] == PAIRS['data']  # the kind, and what is no default
  assert x.changes()['evals']['test'] == {'kind': 'translate'}
  assert config.update(x, {'data.max_length': 32, 'data.buckets': (32,)}).pairs.buckets == (32,)
  assert config.update(x, {'evals.test.beam': 4}).evals['test'].beam == 4


def test_a_run_has_no_key_of_the_other_kind():
  text, images = (json.loads(config.resolve(v).to_json()) for v in (PAIRS, {'steps': 3}))
  assert [key for key in OF_IMAGES if has(text, key)] == []
  assert [key for key in OF_PAIRS if has(images, key)] == []
  assert all(has(images, key) for key in OF_IMAGES) and all(has(text, key) for key in OF_PAIRS)
  assert set(images) - set(text) == {'augment'} and not set(text) - set(images)
  assert set(text['evals']['test']) & {'image', 'label', 'train'} == set()
  with_eval = json.loads(config.resolve({'steps': 3, 'evals': {'test': {}}}).to_json())
  assert set(with_eval['evals']['test']) & {'beam', 'length_penalty'} == set()


def test_each_kind_of_data_is_asked_for_by_its_own_property():
  text, images = config.resolve(PAIRS), config.resolve({'steps': 3})
  with pytest.raises(UserError, match='translates sentences'):
    _ = text.images
  with pytest.raises(UserError, match='learns from images'):
    _ = images.pairs


@pytest.mark.parametrize(
  'values, words',
  [
    (data(image_size=(8, 8)), ['config.data.image_size']),
    (data(crop='none'), ['config.data.crop']),
    (data(bucket=(8,)), ['config.data.bucket', "'buckets'"]),
    (data(kind='sentences'), ['config.data.kind', 'images, pairs']),
    ({'steps': 3, 'data': {'buckets': (8, 64)}}, ['config.data.buckets']),
    ({'steps': 3, 'data': {'kind': 'images', 'tokens': 'bpe'}}, ['config.data.tokens']),
    (with_keys(model={'name': 'Ti/16'}), ['config.model.name', 'images', 'config.data.kind']),
    (
      {'steps': 3, 'model': {'name': 'Transformer-tiny'}},
      ['config.model.name', 'sentences', 'config.data.kind'],
    ),
    (with_keys(evals={'test': {}}), ['config.evals.test.kind', "'classify'", "'translate'"]),
    (with_keys(evals={'a': {'kind': 'knn'}}), ['config.evals.a.kind', "'knn'", "'translate'"]),
    (with_keys(evals={'a': {'kind': 'translat'}}), ['config.evals.a.kind', 'classify', 'few_shot']),
    (
      {'steps': 3, 'evals': {'a': {'kind': 'translate'}}},
      ['config.evals.a.kind', 'sentences', 'classify, few_shot'],
    ),
    ({'steps': 3, 'evals': {'a': {'beam': 4}}}, ['config.evals.a.beam']),
    (with_keys(evals={'a': {'kind': 'translate', 'image': 'x'}}), ['config.evals.a.image']),
    (with_keys(evals={'a': {'kind': 'translate', 'beam': 0}}), ['config.evals.a.beam', 'least 1']),
    (with_keys(evals={'seed': {'kind': 'translate'}}), ['config.evals.seed']),
    (with_keys(augment={'mixup': 0.2}), ['config.augment', 'images']),
    (with_keys(loss={'distill': {'kind': 'hard'}}), ['config.loss.distill', 'images']),
    (with_keys(loss={'distill': {'tau': 2.0}}), ['config.loss.distill', 'images']),
    (with_keys(loss={'name': 'sigmoid'}), ['config.loss.name', 'images']),
    (with_keys(optim={'schedule': 'noam'}), ['config.optim.warmup']),
    (data(max_length=32), ['config.data.buckets', '64', 'max_length', '32']),
    (data(buckets=(16, 8, 64)), ['config.data.buckets', 'ascending']),
    (data(buckets=(8, 8, 64)), ['config.data.buckets', 'ascending']),
    (data(buckets=()), ['config.data.buckets']),
    (data(buckets=(1, 64)), ['config.data.buckets[0]', 'at least 2']),
    (data(tokens='bpe'), ['config.data.vocabulary', "tokens='words'"]),
    (data(vocabulary=4), ['config.data.vocabulary', 'at least 5']),
    (data(row_multiple=0), ['config.data.row_multiple', 'at least 1']),
    (with_keys(model={'name': 'RNN-GRU', 'width': 17}), ['config.model.width', '17', 'even']),
    (with_keys(checkpoint={'best': 'test/top1'}), ['config.checkpoint.best', 'test/bleu']),
    (with_keys(steps=0), ['config.steps']),
  ],
)
def test_a_contradiction_is_one_sentence(values, words):
  error = refusal(values)
  assert all(word in error for word in words), error


def test_the_accumulation_divides_rows_and_not_tokens():
  """config.batch_size counts tokens; what must divide is data.row_multiple, by the mesh too."""
  x = config.resolve({**PAIRS, 'batch_size': 100, 'optim': {'accumulate': 3}})
  assert x.optim.accumulate == 3
  assert 'accumulate' in refusal({'steps': 3, 'batch_size': 100, 'optim': {'accumulate': 3}})


def test_flags_are_read_as_the_types_of_either_kind():
  flags = [
    '--config.data.kind=pairs',
    '--config.data.name=libreoffice_help:de',
    '--config.data.buckets=(8, 16)',
    '--config.data.max_length=16',
    '--config.data.shared=true',
    '--config.evals.test.kind=translate',
    '--config.evals.test.beam=4',
    '--config.model.name=Transformer-tiny',
  ]
  x = config.resolve({'steps': 3, **nested(config.from_flags(flags))})
  assert x.pairs == PairData(
    name='libreoffice_help:de', buckets=(8, 16), max_length=16, shared=True
  )
  assert x.evals['test'] == TranslationEval(beam=4)
  again = [config.as_flag(f'data.{key}', value) for key, value in x.changes()['data'].items()]
  values = nested(config.from_flags(again))['data']
  assert build(PairData, values, 'config.data') == x.pairs


def nested(values):
  tree: dict = {}
  for key, value in values.items():
    *path, last = key.split('.')
    place = tree
    for name in path:
      place = place.setdefault(name, {})
    place[last] = value
  return tree


def test_the_recipe_takes_a_data_set_by_a_flag():
  updates = config.from_flags(['--config.data.kind=pairs', '--config.data.name=pairs:some/where'])
  data = config.recipe('translate:rnn', updates).pairs
  assert (data.name, data.dir) == ('pairs', 'some/where')
  assert config.recipe('translate:rnn').pairs.name == 'number_words'

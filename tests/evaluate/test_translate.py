"""`vit_jax predict` with a translation run: sentences of a file, and what is refused."""

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.fleet import Nursery
from tests.translations import Undisturbed, refused, write_pairs, write_recipe
from vit_jax import commands
from vit_jax.evaluate import translate
from vit_jax.evaluate.translator import Translator
from vit_jax.run import Run

SOURCES = ['a b c', 'h', 'd d e f g', 'b a']


@pytest.fixture(scope='module')
def run(tmp_path_factory, nursery: Nursery) -> Path:
  folder = write_pairs(tmp_path_factory.mktemp('pairs'))
  recipe = write_recipe(tmp_path_factory.mktemp('recipe') / 'pairs.py', folder)
  return Undisturbed('rnn', recipe, nursery, tmp_path_factory.mktemp('run')).path


def predict(run: Path | str, tmp_path: Path, text: str, *flags: str) -> list[str]:
  (tmp_path / 'in.txt').write_text(text)
  return ['predict', f'--weights={run}', f'--input={tmp_path / "in.txt"}', *flags]


def test_sentences_keep_their_order_whatever_they_are_batched_with(run, tmp_path, capsys):
  output, picture = tmp_path / 'out.txt', tmp_path / 'out.png'
  flags = [f'--output={output}', f'--attention={picture}', '--batch=1']
  assert commands.main(predict(run, tmp_path, '\n'.join(SOURCES), *flags)) == 0
  lines = output.read_text().splitlines()
  assert len(lines) == len(SOURCES) and all(re.fullmatch('[A-H ]+', line) for line in lines)
  assert capsys.readouterr().out.splitlines()[-len(lines) :] == lines
  assert picture.read_bytes().startswith(b'\x89PNG')
  translator = translate.open_run(str(run)).translator
  assert translate.translate(translator, SOURCES, batch=4) == lines
  assert translate.translate(translator, SOURCES[::-1], batch=3) == lines[::-1]


def test_they_are_those_of_the_evaluation(run):
  """Of the last checkpoint, judged at the end of the run; another may be named."""
  stored = Run(run).translations['test']
  translator = translate.open_run(f'{run}@10').translator
  assert translate.translate(translator, stored.sources) == stored.translations
  early = translate.open_run(str(run), '2').translator
  assert translate.translate(early, stored.sources) != stored.translations


def test_programs_are_made_once_for_all_variables(run, monkeypatch):
  """A run judges other variables at each evaluation, by the same programs."""
  made = []
  for name in ('_searching', '_aligning'):
    make = getattr(Translator, name)

    def count(self, *options, name=name, make=make):
      made.append(name)
      return make(self, *options)

    count.__name__ = name
    monkeypatch.setattr(Translator, name, count)
  first = translate.open_run(str(run)).translator
  second = dataclasses.replace(first, variables=jax.tree.map(np.copy, first.variables))
  for translator in (first, second):
    translate.translate(translator, SOURCES)
    translator.alignments([('a b', 'B A')])
  assert sorted(made) == ['_aligning', '_searching']


def test_a_wider_search_finds_no_worse_translation(run):
  translator = translate.open_run(str(run)).translator
  wide = translate.translate(translator, SOURCES, beam=4, alpha=0.0)
  assert len(wide) == len(SOURCES) and wide != translate.translate(translator, SOURCES)


@pytest.mark.parametrize(
  'text, flags, words',
  [
    ('a b\n\nc\n', [], ['line 2', 'empty']),
    ('', [], ['empty']),
    ('a ' * 12, [], ['sentence 1', '12 tokens', 'at most 11']),
    ('a', ['--image_size=32'], ['--image_size', 'images']),
    ('a', ['--output=out.npz'], ['out.npz', '.txt']),
    ('a', ['--rollout'], ['--rollout']),
    ('a', ['--checkpoint=7'], ["'7'", '10']),
  ],
)
def test_mistakes(text, flags, words, run, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  error = refused(predict(run, tmp_path, text, *flags), capsys)
  assert all(word in error for word in words), error


def test_input_that_is_no_text_is_refused(run, tmp_path, capsys):
  image = tmp_path / 'a.png'
  image.write_bytes(b'\x89PNG\xff')
  for place in (image, tmp_path / 'nowhere.txt'):
    assert place.name in refused(['predict', f'--weights={run}', f'--input={place}'], capsys)


def test_an_unknown_word_is_said(run, tmp_path, capsys):
  assert commands.main(predict(run, tmp_path, 'a zebra b')) == 0
  assert '1 tokens are not in the vocabulary' in ''.join(capsys.readouterr())


def test_lost_vocabularies_are_named(run, tmp_path, capsys):
  path = run / 'vocabularies.json'
  good = path.read_bytes()
  path.unlink()
  try:
    assert 'vocabularies.json' in refused(predict(run, tmp_path, 'a'), capsys)
  finally:
    path.write_bytes(good)

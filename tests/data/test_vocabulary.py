"""Vocabularies: round trips, determinism, special tokens, words of tokens."""

import importlib
import random
import subprocess
import sys
import unicodedata

import pytest
from made_up_pairs import made_up

from vit_jax.data import vocabulary as module
from vit_jax.data.vocabulary import Vocabulary, normalize, train_vocabulary, vocabularies_of
from vit_jax.errors import UserError
from vit_jax.models.texts import BEGIN, END, PAD, UNKNOWN

TEXTS = [
  'The arctangent (Atn) is the "inverse" of the tangent.',
  'Choose Tools - Options - 12,345.67 % of 100; see http://example.org/a_b?c=d#e!',
  "l'aperçu de la page : œuvre, naïve, « déjà »",
  'Größe: straße, Übermaß – „Winkel“ … ¿qué?',
  'ἐν ἀρχῇ ἦν ὁ λόγος, καὶ ὁ λόγος ἦν πρὸς τὸν θεόν',
  'नमस्ते दुनिया 你好,世界 😀 👩‍🔬',
  'x',
  '...',
  '<s> </s> <pad> [UNK] < pad> < end>',
] * 2
DECOMPOSED = unicodedata.normalize('NFD', 'Größe déjà')
MESSY = ['  two\t words \n', 'a\u00a0b\u2003c', DECOMPOSED, 'a\x1fb', '  (a  (b']


@pytest.fixture(scope='module')
def bpe():
  return train_vocabulary(TEXTS + MESSY, 'bpe', 600)


@pytest.fixture(scope='module')
def words():
  return train_vocabulary(TEXTS + MESSY, 'words', 0)


@pytest.fixture(params=['bpe', 'words'])
def vocabulary(request):
  return request.getfixturevalue(request.param)


def test_a_text_comes_back(vocabulary):
  texts = TEXTS + MESSY
  for text, ids in zip(texts, vocabulary.encode(texts), strict=True):
    assert min(ids) > UNKNOWN and max(ids) < len(vocabulary)
    assert vocabulary.decode(ids) == normalize(text)
    assert vocabulary.decode([BEGIN, *ids, END, PAD, PAD]) == normalize(text)


def test_subwords_spell_words_that_were_never_seen(bpe):
  rng = random.Random(0)
  letters = [c for c in 'abcdefghilmnoprstu' if c in ''.join(TEXTS)]
  for _ in range(50):
    text = ' '.join(''.join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(5))
    (ids,) = bpe.encode([text])
    assert bpe.decode(ids) == text


def test_letters_join_but_digits_and_punctuation_stand_alone():
  vocabulary = train_vocabulary(['the cat, 12 (the cat)'] * 9, 'bpe', 100)
  (ids,) = vocabulary.encode(['the cat, 12 (the cat)'])
  assert vocabulary.tokens(ids) == ['▁the', '▁cat', ',', '▁1', '2', '▁(', 'the', '▁cat', ')']


def test_the_first_ids_are_special_and_no_text_has_them(vocabulary):
  assert vocabulary.tokens([PAD, BEGIN, END, UNKNOWN]) == ['<pad>', '<begin>', '<end>', '<unknown>']
  (ids,) = vocabulary.encode(['<s> </s> <pad> [UNK] < pad> < end>'])
  assert min(ids) > UNKNOWN
  assert vocabulary.decode([PAD, BEGIN, END, UNKNOWN]) == ''
  assert vocabulary.encode([]) == [] and vocabulary.encode(['']) == [[]]


def test_what_is_not_in_the_vocabulary_is_unknown():
  words = train_vocabulary(['a a a b b c'], 'words', 6)
  assert len(words) == 6 and words.encode(['a b c zzz']) == [[4, 5, UNKNOWN, UNKNOWN]]
  subwords = train_vocabulary(['a a a b b c'], 'bpe', 8)
  assert len(subwords) <= 8
  (ids,) = subwords.encode(['a z'])
  assert UNKNOWN in ids and subwords.decode(ids) == 'a'


@pytest.mark.parametrize('size', [5, 6, 40, 200])
def test_the_size_is_a_limit(size):
  assert len(train_vocabulary(TEXTS, 'bpe', size)) <= size
  assert len(train_vocabulary(TEXTS, 'words', size)) <= size


def test_two_trainings_give_equal_bytes_in_any_order(vocabulary, request):
  tokens = 'bpe' if vocabulary is request.getfixturevalue('bpe') else 'words'
  texts = TEXTS + MESSY
  for order in (texts, texts[::-1]):
    again = train_vocabulary(order, tokens, 600 if tokens == 'bpe' else 0)
    assert again.to_json() == vocabulary.to_json() and again.digest() == vocabulary.digest()


def test_another_process_gives_equal_bytes(tmp_path):
  data, source = made_up(tmp_path, tokens='bpe', vocabulary=80)
  code = (
    'from pathlib import Path\nfrom vit_jax.config.pairs import PairData\n'
    'from vit_jax.data.pairs import open_pairs\n'
    'from vit_jax.data.vocabulary import vocabularies_of\n'
    f'data = {data!r}\nsource = open_pairs(data, "train", Path("."))\n'
    'print(*(v.digest() for v in vocabularies_of(data, source)))'
  )
  printed = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert printed.stdout.split() == [v.digest() for v in vocabularies_of(data, source)]


def test_json_brings_all_back(vocabulary):
  again = Vocabulary.from_json(vocabulary.to_json())
  assert again.to_json() == vocabulary.to_json() and len(again) == len(vocabulary)
  assert again.encode(TEXTS) == vocabulary.encode(TEXTS)
  assert again.digest() == vocabulary.digest()
  assert again.digest() != train_vocabulary(TEXTS, 'words', 20).digest()
  for text in ('', '{}', 'junk'):
    with pytest.raises(UserError, match='not a vocabulary'):
      Vocabulary.from_json(text)


def test_each_token_knows_its_word(vocabulary):
  for text in TEXTS + MESSY:
    (ids,) = vocabulary.encode([text])
    word_of = vocabulary.word_of(text)
    assert len(word_of) == len(ids)
    spelled = [''] * len(text.split())
    for word, token in zip(word_of, vocabulary.tokens(ids), strict=True):
      spelled[word] += token
    assert [word.lstrip('▁') for word in spelled] == normalize(text).split()


def test_vocabularies_of_the_two_sides(tmp_path):
  data, source = made_up(tmp_path)
  apart = vocabularies_of(data, source)
  assert not apart.shared and apart.source.encode(['s0'])[0] != [UNKNOWN]
  assert apart.target.encode(['s0']) == [[UNKNOWN]]
  data, source = made_up(tmp_path, shared=True)
  one = vocabularies_of(data, source)
  assert one.shared and UNKNOWN not in one.source.encode(['s0 t0 a'])[0]
  assert one._replace(target=Vocabulary.from_json(one.target.to_json())).shared
  assert len(one.source) < len(apart.source) + len(apart.target)


def test_a_missing_package_is_told(monkeypatch):
  monkeypatch.setitem(sys.modules, 'tokenizers', None)
  spec = importlib.util.find_spec(module.__name__)
  with pytest.raises(UserError, match=r"pip install 'vit-jax\[text\]'"):
    spec.loader.exec_module(importlib.util.module_from_spec(spec))

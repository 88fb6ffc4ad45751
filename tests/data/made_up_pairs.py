"""Folders of made-up sentence pairs."""

import random

from vit_jax.config.pairs import PairData
from vit_jax.data.pairs import open_pairs


def write(folder, split='train', **lines):
  """SPLIT.src and the like, from lists of lines."""
  folder.mkdir(parents=True, exist_ok=True)
  for kind, texts in lines.items():
    text = ''.join(f'{line}\n' for line in texts)
    (folder / f'{split}.{kind}').write_bytes(text.encode())
  return folder


def sentences(count, longest=20, seed=0):
  """(source, target) lists of unlike lengths; the second word of each spells its index."""
  rng = random.Random(seed)

  def words(index, prefix):
    n = rng.randint(2, longest)
    return ' '.join([prefix, f'{prefix}{index}', *rng.choices('abcdefgh', k=n - 2)])

  return [words(i, 's') for i in range(count)], [words(i, 't') for i in range(count)]


def made_up(folder, count=203, longest=20, split='train', **keys):
  """(the keys of a run, the source) of such sentences in a new folder."""
  source, target = sentences(count, longest)
  write(folder, split, src=source, tgt=target)
  plain = dict(tokens='words', vocabulary=0, max_length=24, buckets=(8, 16, 24), row_multiple=2)
  data = PairData(name=f'pairs:{folder}', **{**plain, **keys})
  return data, open_pairs(data, split, folder)

"""reverse: sequences of letters to be reversed. The synthetic check that attention works.

Splits: train (20,000 sequences of 1 to 25 letters) and test (1,000 of 1 to 30, so that one in six
is longer than any in training). No sequence comes twice. The links are known: word i of n belongs
to word n - 1 - i. Made here, nothing to install; license: Apache-2.0, as this repository.
"""

import random
import string
from pathlib import Path

from vit_jax.data.pair_sets import Pair

VERSION = '1.0.0'
TRAIN, TEST = (20_000, 25), (1_000, 30)  # sequences, the longest


def splits(variant: str, data_dir: Path) -> dict[str, list[Pair]]:
  """The pairs of each split."""
  rng, seen = random.Random(0), set()
  return {'test': _draw(rng, seen, *TEST), 'train': _draw(rng, seen, *TRAIN)}


def _draw(rng: random.Random, seen: set[str], count: int, longest: int) -> list[Pair]:
  pairs = []
  while len(pairs) < count:
    letters = [rng.choice(string.ascii_lowercase) for _ in range(rng.randint(1, longest))]
    text, n = ' '.join(letters), len(letters)
    if text not in seen:
      seen.add(text)
      pairs.append(Pair(text, ' '.join(letters[::-1]), frozenset((i, n - 1 - i) for i in range(n))))
  return pairs

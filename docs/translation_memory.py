"""What a translation memory reaches: the target of the most similar training source, in BLEU.

    python docs/translation_memory.py libreoffice_help:de

Similarity is the cosine of TF-IDF vectors over words and pairs of words. Also: copying the source.
"""

import sys

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from vit_jax.config import PairData
from vit_jax.data.pairs import open_pairs
from vit_jax.evaluate.translation import score
from vit_jax.paths import default_data_dir

ROWS = 200  # of the matrix of similarities, at a time


def memory(train: list[tuple[str, str]], sources: list[str]) -> list[str]:
  """The translation of each source that the memory holds."""
  vectors = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r'\w+|[^\w\s]', sublinear_tf=True)
  known = vectors.fit_transform([source for source, _ in train])
  asked = vectors.transform(sources)
  parts = [asked[i : i + ROWS] @ known.T for i in range(0, len(sources), ROWS)]
  return [train[n][1] for n in np.concatenate([part.toarray().argmax(axis=1) for part in parts])]


if __name__ == '__main__':
  train, test = (
    open_pairs(PairData(name=sys.argv[1]), split, default_data_dir()) for split in ('train', 'test')
  )
  sources, references = zip(*test.read(range(len(test))), strict=True)
  found = memory(train.read(range(len(train))), list(sources))
  for name, translations in (('memory', found), ('copy', sources)):
    print(f'{name}: {score(translations, references).bleu:.2f} BLEU on {len(sources):,} sentences')

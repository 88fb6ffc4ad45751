"""Sets of sentence pairs that we build ourselves, one per module.

A module has VERSION, which changes whenever the same packages give other pairs, and
`splits(variant, data_dir)`, which gives the pairs of each split or raises a UserError that says
which package is missing and how to install it.
"""

from typing import NamedTuple

from vit_jax.data.pair_files import Links

# Name[:variant] -> the module that builds it.
MODULES = {
  'number_words': 'number_words',
  'libreoffice_help:de': 'libreoffice_help',
  'libreoffice_help:fr': 'libreoffice_help',
  'greek_english': 'greek_english',
  'reverse': 'reverse',
}


class Pair(NamedTuple):
  """A source sentence, its translation, and which words of the two belong together, if known."""

  source: str
  target: str
  links: Links | None = None

"""The schema of the data of a translation run: pairs of sentences, and how they become batches."""

from dataclasses import dataclass
from typing import Literal

from vit_jax.errors import UserError
from vit_jax.fields import bounded, tag

SPECIAL_TOKENS = 4  # of every vocabulary: padding, begin, end, unknown


@dataclass(frozen=True)
class PairData:
  """Where pairs of sentences come from and how they become batches."""

  kind: Literal['pairs'] = tag('pairs')  # as above
  # number_words, libreoffice_help:de or :fr, greek_english, reverse; or 'pairs', with dir
  name: str = 'number_words'
  dir: str = ''  # train.src and train.tgt, or train.tsv, and so on by split
  train: str = 'train'  # TFDS split syntax: 'train[:2000]'
  tokens: Literal['bpe', 'words'] = 'bpe'  # subwords, or whole words
  vocabulary: int = bounded(4000, 0)  # most of each side, special tokens included; 0: all words
  shared: bool = False  # one vocabulary for both sides
  max_length: int = bounded(64, 2)  # tokens of a side, its end included; longer pairs are left out
  buckets: tuple[int, ...] = bounded((8, 16, 32, 64), 2)  # lengths of batches; the last: max_length
  row_multiple: int = bounded(8, 1)  # of rows of a batch: what mesh and accumulation divide
  prefetch: int = bounded(2, 1, 2**12)  # batches ahead on the device

  def rows(self, length: int, batch_size: int) -> int:
    """Rows of a batch of sentences of `length` tokens, if `batch_size` tokens are meant."""
    return max(batch_size // length // self.row_multiple, 1) * self.row_multiple

  def __post_init__(self) -> None:
    if self.vocabulary == 0 and self.tokens == 'bpe':
      raise UserError(
        "vocabulary is 0, which means all words and needs tokens='words'; subwords need a size, "
        'such as 4000'
      )
    if 0 < self.vocabulary <= SPECIAL_TOKENS:
      raise UserError(
        f'vocabulary is {self.vocabulary}, but {SPECIAL_TOKENS} of its tokens are special ones; '
        f'it must be at least {SPECIAL_TOKENS + 1}'
      )
    if not self.buckets or list(self.buckets) != sorted(set(self.buckets)):
      raise UserError(f'buckets is {self.buckets}; it must be ascending lengths, such as (16, 64)')
    if self.buckets[-1] != self.max_length:
      raise UserError(
        f'buckets ends with {self.buckets[-1]}, but max_length is {self.max_length}; the two must '
        'be equal'
      )

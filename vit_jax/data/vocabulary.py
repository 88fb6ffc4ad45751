"""Vocabularies of words or subwords, trained on a data set by the library `tokenizers`."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from vit_jax.config.pairs import PairData
from vit_jax.data.identity import digest
from vit_jax.data.pairs import PairSource
from vit_jax.errors import UserError, writing
from vit_jax.models.texts import END, PAD, UNKNOWN
from vit_jax.reads import content
from vit_jax.writes import write

try:
  import tokenizers
  from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
except ImportError as error:
  raise UserError(
    "translation needs the package tokenizers, which is not installed: pip install 'vit-jax[text]'"
  ) from error

# Their names have a space, which no token of a text has: '<s>' in a text is a word like others.
SPECIAL = ('< pad>', '< begin>', '< end>', '< unknown>')
SPACE = r'[\s\x1c-\x1f]+'  # what str.split splits at
# A piece is letters, a digit or another character, with the space before it.
PIECE = r'▁?(?:[\p{L}\p{M}]+|\p{N}|[^▁\p{L}\p{M}\p{N}])|▁'
FEWEST = 2  # times that a pair of subwords must occur to be merged

Tokens = Literal['bpe', 'words']


@dataclass(frozen=True, eq=False)
class Vocabulary:
  """Tokens and their ids: 0 padding, 1 begin, 2 end, 3 unknown, then those of the text.

  Text is in Unicode's normalization form C, with one space between words.
  """

  tokenizer: tokenizers.Tokenizer = field(repr=False)

  def __len__(self) -> int:
    return self.tokenizer.get_vocab_size()

  def encode(self, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, without begin and end."""
    return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids, with one space between words; special tokens are left out."""
    return ' '.join(self.tokenizer.decode([i for i in ids if i > UNKNOWN]).split())

  def tokens(self, ids: Iterable[int]) -> list[str]:
    """The text of each id: '▁' is the space before a word, '<end>' and the like are special."""
    return [str(self.tokenizer.id_to_token(i)).replace(' ', '') for i in ids]

  def word_of(self, text: str) -> list[int]:
    """For each token of a text the index of its whitespace-separated word."""
    ends = np.array([match.end() for match in re.finditer(r'\S+', text)], int)
    # A token may start at the space before its word, which is not before the end of the last one.
    starts = [start for start, _ in self.tokenizer.encode(text).offsets]
    return np.searchsorted(ends, starts, side='right').tolist()

  def to_json(self) -> str:
    """Text that `from_json` reads."""
    return self.tokenizer.to_str()

  @classmethod
  def from_json(cls, text: str) -> 'Vocabulary':
    """The vocabulary that `to_json` wrote.

    Raises:
      UserError: it is something else.
    """
    try:
      return cls(tokenizers.Tokenizer.from_str(text))
    except Exception as error:  # the library raises a plain Exception
      raise UserError(f'this is not a vocabulary that vit_jax wrote: {error}') from None

  def digest(self) -> str:
    """Identifies the tokens, their ids and merges, and not the version of the library."""
    model = json.loads(self.to_json())['model']
    tokens = sorted(model['vocab'].items(), key=lambda item: item[1])
    return digest(model['type'], tokens, model.get('merges'))


def padded(sentences: Sequence[Sequence[int]], rows: int, length: int) -> np.ndarray:
  """Token ids as int32 [rows, length]: cut to fit, with END and padding; other rows are empty.

  An empty sentence is END alone, for a model attends to at least one token.
  """
  out_BT = np.full((rows, length), PAD, np.int32)
  out_BT[len(sentences) :, 0] = END
  for row_T, ids in zip(out_BT, sentences, strict=False):
    ids = [*ids[: length - 1], END]
    row_T[: len(ids)] = ids
  return out_BT


class Vocabularies(NamedTuple):
  """The vocabularies of the two sides."""

  source: Vocabulary
  target: Vocabulary

  @property
  def shared(self) -> bool:
    """Whether both sides have the same one."""
    return self.source is self.target or self.source.to_json() == self.target.to_json()

  def digest(self) -> str:
    """Identifies the tokens of both sides and their ids."""
    return digest(self.source.digest(), self.target.digest())

  def to_keys(self) -> dict[str, str]:
    """What `from_keys` reads; a shared vocabulary is there once."""
    target = {} if self.shared else {'target': self.target.to_json()}
    return {'source': self.source.to_json(), **target}

  @classmethod
  def from_keys(cls, keys: Mapping[str, str]) -> 'Vocabularies':
    """The vocabularies that `to_keys` gave; raises a KeyError or a UserError for anything else."""
    source = Vocabulary.from_json(keys['source'])
    return cls(source, Vocabulary.from_json(keys['target']) if 'target' in keys else source)


def stored_vocabularies(data: PairData, source: PairSource, data_dir: Path) -> Vocabularies:
  """The vocabularies that `data` asks for: trained once, then read from `data_dir`/vocabularies."""
  asked = data.tokens, data.vocabulary, data.shared
  path = data_dir / 'vocabularies' / f'{digest(source.digest(), *asked)[:32]}.json'
  try:
    return Vocabularies.from_keys(json.loads(content(path)))
  except (OSError, ValueError, KeyError, UserError):  # what is damaged is made again
    pass
  vocabularies = vocabularies_of(data, source)
  with writing(path.parent):
    path.parent.mkdir(parents=True, exist_ok=True)
  write(path, json.dumps(vocabularies.to_keys()))
  return vocabularies


def vocabularies_of(data: PairData, source: PairSource) -> Vocabularies:
  """Trains the vocabularies that `data` asks for.

  Args:
    source: the training split.
  """
  pairs = source.read(range(len(source)))
  sides = [[pair[side] for pair in pairs] for side in range(2)]
  if data.shared:
    vocabulary = train_vocabulary(sides[0] + sides[1], data.tokens, data.vocabulary)
    return Vocabularies(vocabulary, vocabulary)
  return Vocabularies(*(train_vocabulary(side, data.tokens, data.vocabulary) for side in sides))


def train_vocabulary(texts: Sequence[str], tokens: Tokens, size: int) -> Vocabulary:
  """A vocabulary of the commonest words or subwords; equal texts give equal bytes.

  Args:
    tokens: 'words' are separated by whitespace; 'bpe' are subwords by byte-pair encoding of
      characters (Sennrich et al. 2016) within words, digits and punctuation marks. The characters
      are the commonest ones, up to half of the vocabulary; others are unknown.
    size: at most so many tokens, special ones included; 0 with 'words': all.
  """
  model: dict[str, Any]
  if tokens == 'words':
    counts = Counter(word for text in texts for word in normalize(text).split(' '))
    words = _commonest(counts, size - len(SPECIAL) if size else len(counts))
    ids = {token: i for i, token in enumerate((*SPECIAL, *words))}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(ids, unk_token=SPECIAL[UNKNOWN]))
  else:
    counts = Counter(character for text in texts for character in normalize(text))
    counts['▁'] = counts.pop(' ', 0) + len(texts)
    alphabet = _commonest(counts, (size - len(SPECIAL) + 1) // 2)
    trainer = trainers.BpeTrainer(
      vocab_size=size,
      special_tokens=list(SPECIAL),
      initial_alphabet=alphabet,
      limit_alphabet=len(alphabet),
      min_frequency=FEWEST,
      show_progress=False,
    )
    tokenizer = _around(tokenizers.Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN])), tokens)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())['model']
    # Anew, without the special tokens as words that are searched for in every text.
    tokenizer = tokenizers.Tokenizer(
      models.BPE(
        model['vocab'], [tuple(merge) for merge in model['merges']], unk_token=SPECIAL[UNKNOWN]
      )
    )
  return Vocabulary(_around(tokenizer, tokens))


def normalize(text: str) -> str:
  """The form of a text that a vocabulary keeps: form C, one space between words."""
  return ' '.join(unicodedata.normalize('NFC', text).split())


def _around(tokenizer: Any, tokens: Tokens) -> Any:
  """Adds what comes before and after the model."""
  squeeze = normalizers.Replace(tokenizers.Regex(SPACE), ' ')
  tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), squeeze, normalizers.Strip()])
  if tokens == 'words':
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  else:
    space = pre_tokenizers.Metaspace(prepend_scheme='always', split=False)
    pieces = pre_tokenizers.Split(tokenizers.Regex(PIECE), 'isolated')
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([space, pieces])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme='always', split=False)
  return tokenizer


def _commonest(counts: Counter[str], size: int) -> list[str]:
  """By count, then by the alphabet, so that the order of the texts does not matter."""
  return sorted(counts, key=lambda item: (-counts[item], item))[:size]

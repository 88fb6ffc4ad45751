"""number_words: the English name of a number and the German one, split into morphemes.

To get it: pip install 'vit-jax[text]' (num2words 0.5.14, LGPL-2.1, which names the numbers).

    twenty six thousand one hundred and four
    sechs und zwanzig tausend ein hundert vier

Numbers of 1 to 15 digits, all lengths equally likely but for the short ones, of which there are
few. Splits: train (40,000) and test (1,000 numbers of at least 5 digits), disjoint by number.

The links are exact: both names are spelled from one decomposition of the number, which says which
words belong together; 'and' and 'und' belong to nothing. All 41,000 are what num2words gives, which
a test compares; it takes 15 s, so a build compares one in forty.
"""

import random
from pathlib import Path

from vit_jax.data.pair_sets import Pair
from vit_jax.errors import UserError

try:
  import num2words
except ImportError as error:
  raise UserError(
    "data set 'number_words' is made with the package num2words, which is not installed: "
    "pip install 'vit-jax[text]'"
  ) from error

VERSION = '1.0.0'
TRAIN, TEST = 40_000, 1_000
MOST_DIGITS, FEWEST_TEST_DIGITS = 15, 5
CHECK_EVERY = 40

ENGLISH = (
  'zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen '
  'sixteen seventeen eighteen nineteen'
).split()
ENGLISH_TENS = '- - twenty thirty forty fifty sixty seventy eighty ninety'.split()
GERMAN = [
  'null', 'eins', 'zwei', 'drei', 'vier', 'fünf', 'sechs', 'sieben', 'acht', 'neun', 'zehn', 'elf',
  'zwölf', 'dreizehn', 'vier zehn', 'fünf zehn', 'sech zehn', 'sieb zehn', 'acht zehn', 'neun zehn',
]  # fmt: skip
GERMAN_TENS = '- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig'.split()
# Power of 1000 -> the English name, and the German one for one and for several.
SCALES = {
  4: ('trillion', 'billion', 'billionen'),
  3: ('billion', 'milliarde', 'milliarden'),
  2: ('million', 'million', 'millionen'),
  1: ('thousand', 'tausend', 'tausend'),
}


def splits(variant: str, data_dir: Path) -> dict[str, list[Pair]]:
  """The pairs of each split."""
  train, test = numbers()
  for number in [*test, *train][::CHECK_EVERY]:
    checked(number)
  return {'train': [spell(n) for n in train], 'test': [spell(n) for n in test]}


def numbers() -> tuple[list[int], list[int]]:
  """The numbers to train on and to test with, the same everywhere."""
  rng, drawn = random.Random(0), {}  # a dict keeps the order
  while len(drawn) < TRAIN + TEST:
    digits = rng.randint(1, MOST_DIGITS)
    number = rng.randint(10 ** (digits - 1), 10**digits - 1)
    if digits > 3 or rng.random() >= 0.7:
      drawn[number] = None
  order = list(drawn)
  rng.shuffle(order)
  test = [n for n in order if n >= 10 ** (FEWEST_TEST_DIGITS - 1)][:TEST]
  held_out = set(test)
  return [n for n in order if n not in held_out], test


def checked(number: int) -> Pair:
  """`spell`, compared with num2words.

  Raises:
    UserError: num2words gives another name.
  """
  pair = spell(number)
  english = num2words.num2words(number).replace(',', '').replace('-', ' ')
  german = num2words.num2words(number, lang='de').lower().replace(' ', '')
  if pair.source != english or pair.target.replace(' ', '') != german:
    raise UserError(
      f"data set 'number_words' knows {number:,} as {pair.source!r} and {pair.target!r}, but "
      f'num2words gives {english!r} and {german!r}; install the right version: '
      "pip install 'vit-jax[text]'"
    )
  return pair


def spell(number: int) -> Pair:
  """The names of a number from 1 to 10**15 - 1, and their links."""
  name = _Name()
  for power, (english, one, several) in SCALES.items():
    group = number // 1000**power % 1000
    if group:
      alone = 'ein' if power == 1 else 'eine'  # but num2words has einhunderteinstausend
      name.add_group(group, alone if group == 1 else 'eins')
      name.add(english, one if group == 1 else several)
  rest = number % 1000
  if rest:
    if rest < 100 and number > rest:
      name.english.append('and')
    name.add_group(rest, 'eins')
  return Pair(' '.join(name.english), ' '.join(name.german), frozenset(name.links))


class _Name:
  """English words, German morphemes and the links between them, as they grow."""

  def __init__(self) -> None:
    self.english: list[str] = []
    self.german: list[str] = []
    self.links: set[tuple[int, int]] = set()

  def add(self, english: str, german: str) -> None:
    """Adds an English word and its German morphemes."""
    morphemes = german.split()
    start = len(self.german)
    self.links |= {(len(self.english), start + i) for i in range(len(morphemes))}
    self.english.append(english)
    self.german += morphemes

  def add_group(self, number: int, one: str) -> None:
    """Adds a number from 1 to 999; `one` is the German 1 at its end."""
    hundreds, rest = divmod(number, 100)
    if hundreds:
      self.add(ENGLISH[hundreds], 'ein' if hundreds == 1 else GERMAN[hundreds])
      self.add('hundred', 'hundert')
      if rest:
        self.english.append('and')
    tens, ones = divmod(rest, 10)
    if rest and rest < 20:
      self.add(ENGLISH[rest], one if rest == 1 else GERMAN[rest])
    elif rest and not ones:
      self.add(ENGLISH_TENS[tens], GERMAN_TENS[tens])
    elif rest:  # twenty six, sechs und zwanzig
      s, t = len(self.english), len(self.german)
      self.links |= {(s, t + 2), (s + 1, t)}
      self.english += [ENGLISH_TENS[tens], ENGLISH[ones]]
      self.german += ['ein' if ones == 1 else GERMAN[ones], 'und', GERMAN_TENS[tens]]

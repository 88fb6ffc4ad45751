"""ImageNet's 1000 classes, in the order of their labels."""

import functools
from collections.abc import Sequence
from pathlib import Path

LABELS = Path(__file__).with_name('imagenet_labels.txt')
AGREE = 0.9  # of the names: other lists have other synonyms


@functools.cache
def names() -> tuple[str, ...]:
  return tuple(line.partition(' ')[2] for line in LABELS.read_text().splitlines())


@functools.cache
def wordnet_ids() -> tuple[str, ...]:
  """The names of the classes in TFDS and in the folders of the published archive."""
  return tuple(line.partition(' ')[0] for line in LABELS.read_text().splitlines())


def canonical(class_names: Sequence[str]) -> tuple[str, ...]:
  """`names()` if these are ImageNet's WordNet ids or names with synonyms; else unchanged."""
  class_names = tuple(class_names)
  if len(class_names) != len(names()) or class_names == names():
    return class_names
  pairs = zip(names(), class_names, strict=True)
  agree = sum(ours.lower() in theirs.lower() for ours, theirs in pairs) / len(class_names)
  return names() if class_names == wordnet_ids() or agree >= AGREE else class_names


def in_words(class_names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
  """WordNet ids of some of its classes as `names()` if those are `known`; else unchanged."""
  words = dict(zip(wordnet_ids(), names(), strict=True))
  if tuple(known) != names() or not all(name in words for name in class_names):
    return tuple(class_names)
  return tuple(words[name] for name in class_names)

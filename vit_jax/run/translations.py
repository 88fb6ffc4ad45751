"""translations/NAME.json: the translation of each sentence of a split, and some alignments."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vit_jax.run.files import read_object, write_json


@dataclass(frozen=True)
class Aligned:
  """What a model looks at while it reads the right translation of a sentence.

  Attributes:
    weights: of each word of the target over the words of the source.
    links: gold ones as (source, target), if the data has them.
  """

  source: list[str]
  target: list[str]
  weights: list[list[float]]
  links: list[tuple[int, int]] | None = None


@dataclass(frozen=True)
class Translations:
  """The sentences of a split, in order.

  Attributes:
    signature: how BLEU was computed.
    aligned: of some sentences; none of a model without attention.
  """

  sources: list[str]
  references: list[str]
  translations: list[str]
  signature: str = ''
  aligned: list[Aligned] = field(default_factory=list)


def write_translations(path: Path, found: Translations) -> None:
  path.parent.mkdir(exist_ok=True)
  write_json(path, asdict(found))


def read_translations(path: Path, faults: list[str]) -> Translations | None:
  """None if the file is damaged, which is a fault."""
  values: dict[str, Any] = read_object(path, faults)
  if not values:
    return None
  try:
    aligned = [Aligned(**entry) for entry in values.pop('aligned')]
    found = Translations(**values, aligned=aligned)
    if len(found.sources) == len(found.references) == len(found.translations):
      return found
  except (KeyError, TypeError):
    pass
  faults.append(f'{path} is damaged: it does not hold translations')
  return None

"""HTML from the templates beside this file. Every value is escaped, except our own SVG."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from vit_jax.report import plots

ENVIRONMENT = jinja2.Environment(
  loader=jinja2.FileSystemLoader(Path(__file__).with_name('templates')),
  autoescape=True,
  undefined=jinja2.StrictUndefined,
  trim_blocks=True,
  lstrip_blocks=True,
)


class Picture(NamedTuple):
  """A drawn figure, and what its caption says."""

  svg: Markup
  title: str = ''
  note: str = ''


class Table(NamedTuple):
  """A table; the first cell of each row names it. `bold` are the rows that stand out."""

  head: Sequence[str]
  rows: Sequence[Sequence[str]]
  bold: Collection[int] = ()


def picture(figure: Figure, description: str, title: str = '', note: str = '') -> Picture:
  """Draws a figure as SVG, with a description for those who cannot see it."""
  return Picture(Markup(plots.to_svg(figure, description)), title, note)  # nosec B704


def render(template: str, **values: object) -> str:
  return ENVIRONMENT.get_template(template).render(values)

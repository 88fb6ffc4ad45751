"""Draws the pictures of docs/models.md: one SVG a family, plain text, the same bytes every time.

    python docs/blocks/draw.py

A column is read from top to bottom. `Skip` is a residual branch: what it holds is added to the
line that goes around it.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple

WIDE, HIGH, GAP = 156, 27, 15  # of a box; between boxes
LANE = 20  # beside the boxes, for the lines of skips
TOP = 44  # room for the title of a column
COLORS = {
  'norm': '#c9daf8',
  'mix': '#f9cb9c',
  'mlp': '#b6d7a8',
  'conv': '#d5c6ec',
  'scale': '#ffe599',
  'data': '#e3e6ea',
  'head': '#f4b8c4',
}
STYLE = """text{font:13px system-ui,'DejaVu Sans',sans-serif;text-anchor:middle;fill:#1f2430}
.outside{fill:#1f2430}.line{stroke:#5b6472;stroke-width:1.4;fill:none}
.frame{stroke:#5b6472;stroke-width:1;stroke-dasharray:4 3;fill:none}
.head{fill:#5b6472}.plus{stroke:#5b6472;stroke-width:1.4;fill:#fff}
@media(prefers-color-scheme:dark){.outside{fill:#e3e6ea}.line,.frame{stroke:#a8b0bd}
.head{fill:#a8b0bd}}"""


class Box(NamedTuple):
  label: str
  kind: str


@dataclass(frozen=True)
class Skip:
  """A branch, and what stands in the line around it, if not the identity."""

  inside: tuple[Box, ...]
  shortcut: str = ''


@dataclass(frozen=True)
class Repeat:
  """A frame around what is repeated."""

  inside: tuple[Box | Skip, ...]
  times: str


Part = Box | Skip | Repeat


class Column(NamedTuple):
  title: str
  parts: tuple[Part, ...]


class Pen:
  """Draws down one column."""

  def __init__(self, center: float):
    self.x, self.y, self.out = center, float(TOP), []
    self.arrow_from = None  # where the line to the next thing begins

  def box(self, box: Box) -> None:
    self._arrive()
    self.out.append(
      f'<rect x="{self.x - WIDE / 2:g}" y="{self.y:g}" width="{WIDE}" '
      f'height="{HIGH}" rx="5" fill="{COLORS[box.kind]}"/>'
    )
    self.out.append(
      f'<text x="{self.x:g}" y="{self.y + HIGH / 2 + 4.5:g}">{escape(box.label)}</text>'
    )
    self._leave(HIGH)

  def skip(self, skip: Skip) -> None:
    fork = self.y - GAP * 0.65
    lane = self.x + WIDE / 2 + LANE
    if self.arrow_from is None:
      self.arrow_from = self.y - GAP
    for box in skip.inside:
      self.box(box)
    self._arrive()
    radius = 8
    middle = self.y + radius
    self.out.append(
      f'<path class="line" d="M{self.x:g} {fork:g}H{lane:g}V{middle:g}H{self.x + radius + 5:g}"/>'
    )
    self._head(self.x + radius, middle, 'left')
    self.out.append(f'<circle class="plus" cx="{self.x:g}" cy="{middle:g}" r="{radius}"/>')
    self.out.append(
      f'<path class="line" style="stroke:#5b6472" d="M{self.x - 4:g} {middle:g}h8'
      f'M{self.x:g} {middle - 4:g}v8"/>'
    )
    if skip.shortcut:
      y = (fork + middle) / 2
      self.out.append(
        f'<text class="outside" transform="translate({lane + 14:g} {y:g}) rotate(90)'
        f'">{escape(skip.shortcut)}</text>'
      )
    self._leave(2 * radius)

  def repeat(self, repeat: Repeat) -> None:
    top = self.y + 2
    self.y += GAP
    for part in repeat.inside:
      self.part(part)
    left = self.x - WIDE / 2 - 10
    self.out.append(
      f'<rect class="frame" x="{left:g}" y="{top - 4:g}" '
      f'width="{WIDE + 2 * LANE + 22:g}" height="{self.y - top:g}" rx="7"/>'
    )
    self.out.append(
      f'<text class="outside" style="text-anchor:start" x="{left + 4:g}" '
      f'y="{self.y + 9:g}">{escape(repeat.times)}</text>'
    )
    self.y += GAP

  def part(self, part: Part) -> None:
    {Box: self.box, Skip: self.skip, Repeat: self.repeat}[type(part)](part)

  def _arrive(self) -> None:
    """The line from the last thing to where the next one begins."""
    if self.arrow_from is not None:
      self.out.append(f'<path class="line" d="M{self.x:g} {self.arrow_from:g}V{self.y - 5:g}"/>')
      self._head(self.x, self.y, 'down')

  def _leave(self, height: float) -> None:
    self.y += height
    self.arrow_from = self.y
    self.y += GAP

  def _head(self, x: float, y: float, way: str) -> None:
    points = {
      'down': f'{x - 4:g},{y - 7:g} {x + 4:g},{y - 7:g} {x:g},{y:g}',
      'left': f'{x + 7:g},{y - 4:g} {x + 7:g},{y + 4:g} {x:g},{y:g}',
    }[way]
    self.out.append(f'<polygon class="head" points="{points}"/>')


def svg(columns: tuple[Column, ...]) -> str:
  """One picture; columns stand side by side."""
  step = WIDE + 2 * LANE + 50
  body, bottom = [], 0.0
  for i, column in enumerate(columns):
    pen = Pen(14 + WIDE / 2 + i * step)
    pen.out.append(
      f'<text class="outside" style="font-weight:600" x="{pen.x:g}" y="20">'
      f'{escape(column.title)}</text>'
    )
    for part in column.parts:
      pen.part(part)
    body += pen.out
    bottom = max(bottom, pen.y)
  width, height = len(columns) * step - 4, bottom + 2
  return (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
    f'width="{width:g}" height="{height:g}"><style>{STYLE}</style>\n'
    + '\n'.join(body)
    + '\n</svg>\n'
  )


IMAGE = Box('image', 'data')
NORM, BATCH, GROUP = (
  Box(label, 'norm') for label in ('LayerNorm', 'BatchNorm, ReLU', 'GroupNorm, ReLU')
)
ATTENTION, MLP = Box('self-attention', 'mix'), Box('MLP, GELU', 'mlp')
SCALE, CLASSES = Box('LayerScale', 'scale'), Box('linear to classes', 'head')


def conv(text: str) -> Box:
  return Box(f'conv {text}', 'conv')


VIT = (Skip((NORM, ATTENTION)), Skip((NORM, MLP)))
SCALED = (Skip((NORM, ATTENTION, SCALE)), Skip((NORM, MLP, SCALE)))
PATCHES = Box('patches, linear', 'conv')
READ_CLASS = (NORM, Box('class token', 'data'), CLASSES)


def whole_vit(
  front: tuple[Box, ...], tokens: str, block: tuple[Part, ...], end: tuple[Box, ...] = READ_CLASS
) -> Column:
  return Column('model', (*front, Box(tokens, 'data'), Repeat(block, '× depth'), *end))


FIGURES: dict[str, tuple[Column, ...]] = {
  'vit': (whole_vit((IMAGE, PATCHES), 'class token, positions', VIT),),
  'hybrid': (
    Column(
      'stem',
      (
        IMAGE,
        conv('7×7, stride 2'),
        GROUP,
        Box('max pool, stride 2', 'conv'),
        Box('stages of units', 'conv'),
        Box('1×1 patches, linear', 'conv'),
        Box('to the ViT', 'data'),
      ),
    ),
    Column(
      'unit of a stage',
      (
        Skip(
          (conv('1×1'), GROUP, conv('3×3'), GROUP, conv('1×1 to 4 D'), Box('GroupNorm', 'norm')),
          'identity or conv',
        ),
        Box('ReLU', 'norm'),
      ),
    ),
  ),
  'deit': (
    whole_vit(
      (IMAGE, PATCHES),
      'class + distillation',
      VIT,
      (NORM, Box('two linear heads', 'head'), Box('mean of logits', 'head')),
    ),
  ),
  'deit3': (whole_vit((IMAGE, PATCHES, Box('positions', 'data')), 'class token', SCALED),),
  'cait': (
    Column(
      'talking heads',
      (
        IMAGE,
        PATCHES,
        Box('positions', 'data'),
        Repeat(
          (Skip((NORM, Box('talking heads', 'mix'), SCALE)), Skip((NORM, MLP, SCALE))), '× depth'
        ),
      ),
    ),
    Column(
      'class attention',
      (
        Box('class token', 'data'),
        Repeat(
          (
            Skip((Box('with patches: LN', 'norm'), Box('class attention', 'mix'), SCALE)),
            Skip((NORM, MLP, SCALE)),
          ),
          '× 2',
        ),
        NORM,
        CLASSES,
      ),
    ),
  ),
  'dinov2': (
    whole_vit((IMAGE, PATCHES), 'class, registers', SCALED, (NORM, Box('class token', 'data'))),
  ),
  'resnet': (
    Column(
      'basic unit',
      (
        Skip((conv('3×3'), BATCH, conv('3×3'), Box('BatchNorm', 'norm')), 'identity or conv'),
        Box('ReLU', 'norm'),
      ),
    ),
    Column(
      'bottleneck unit',
      (
        Skip(
          (conv('1×1'), BATCH, conv('3×3'), BATCH, conv('1×1 to 4 D'), Box('BatchNorm', 'norm')),
          'identity or conv',
        ),
        Box('ReLU', 'norm'),
      ),
    ),
  ),
  'bit': (
    Column(
      'unit',
      (
        Skip(
          (GROUP, conv('1×1'), GROUP, conv('3×3'), GROUP, conv('1×1 to 4 D')),
          'identity, or conv of the first ReLU',
        ),
      ),
    ),
  ),
  'alexnet': (
    Column(
      'model',
      (
        IMAGE,
        Box('11×11, 64, stride 4', 'conv'),
        Box('ReLU, max pool', 'mlp'),
        conv('5×5, 192'),
        Box('ReLU, max pool', 'mlp'),
        conv('3×3, 384'),
        conv('3×3, 256'),
        conv('3×3, 256'),
        Box('max pool', 'mlp'),
        Box('linear 4096, ReLU', 'mlp'),
        Box('linear 4096, ReLU', 'mlp'),
        CLASSES,
      ),
    ),
  ),
  'lenet': (
    Column(
      'model',
      (
        IMAGE,
        conv('5×5, 6'),
        Box('tanh, mean pool', 'mlp'),
        conv('5×5, 16'),
        Box('tanh, mean pool', 'mlp'),
        conv('5×5, 120'),
        Box('linear 84, tanh', 'mlp'),
        CLASSES,
      ),
    ),
  ),
  'transformer': (
    Column(
      'encoder',
      (
        Box('source tokens', 'data'),
        Box('embedding, positions', 'conv'),
        Repeat((Skip((ATTENTION,)), NORM, Skip((Box('MLP, ReLU', 'mlp'),)), NORM), '× depth'),
        Box('to the decoder', 'data'),
      ),
    ),
    Column(
      'decoder',
      (
        Box('target so far', 'data'),
        Box('embedding, positions', 'conv'),
        Repeat(
          (
            Skip((Box('causal self-attention', 'mix'),)),
            NORM,
            Skip((Box('attention to encoder', 'mix'),)),
            NORM,
            Skip((Box('MLP, ReLU', 'mlp'),)),
            NORM,
          ),
          '× depth',
        ),
        Box('tied table, next token', 'head'),
      ),
    ),
  ),
  'rnn': (
    Column(
      'encoder',
      (
        Box('source tokens', 'data'),
        Box('embedding', 'conv'),
        Repeat((Box('forward, backward cell', 'mix'),), '× source length'),
        Box('h of each token', 'data'),
        Box('last state to decoder', 'data'),
      ),
    ),
    Column(
      'step i of the decoder',
      (
        Box('state s of step i - 1', 'data'),
        Box('scores with each h', 'mix'),
        Box('softmax: alpha', 'mix'),
        Box('context: sum alpha h', 'mix'),
        Box('cell, with token i - 1', 'mix'),
        Box('linear of [s; c]', 'mlp'),
        Box('linear, token i', 'head'),
      ),
    ),
  ),
}


if __name__ == '__main__':
  for name, columns in FIGURES.items():
    Path(__file__).with_name(f'{name}.svg').write_text(svg(columns), 'utf-8')

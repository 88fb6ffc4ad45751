"""Draws the pictures of docs/models.md: one SVG a family, plain text, the same bytes every time.

    python docs/blocks/draw.py

A column is read from top to bottom. `Skip` is a residual branch: what it holds is added to the
line that goes around it.
"""

from pathlib import Path

from pen import Box, Column, Part, Repeat, Skip, svg

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

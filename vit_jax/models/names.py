"""The models by name: BASE, BASE/PATCH or BASE/PATCH-VARIANT, as one table."""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from vit_jax import fields
from vit_jax.errors import UserError, nearest
from vit_jax.fields import whole
from vit_jax.models.inputs import IMAGENET_MEAN, IMAGENET_STD, Crops, Inputs, at
from vit_jax.models.options import (
  AlexNetOptions,
  BiTOptions,
  CaiTOptions,
  HybridOptions,
  LeNetOptions,
  ResNetOptions,
  ViTOptions,
)
from vit_jax.models.sizes import SIZES, Size
from vit_jax.models.texts import EncoderDecoderOptions, RNNOptions, Texts


class Entry(NamedTuple):
  """A line of `MODELS`."""

  family: str  # as `vit_jax models` lists it
  module: str  # file and class of the Linen module, which takes (num_classes, options, inputs)
  options: type[Any]  # the dataclass of its options
  defaults: Mapping[str, Any]  # of this name, where they differ from those of `options`
  patches: tuple[int, ...] = ()  # the published ones; (): the name has no patch
  variants: Mapping[str, Mapping[str, Any]] = {}  # what they change in the defaults
  inputs: Inputs | Texts = Inputs()  # the images that its published weights expect
  crops: Crops = ()  # of `inputs`, by the size of images
  seen_by: str = 'timm'  # whose evaluation `inputs` and `crops` are of

  def inputs_at(self, name: str, size: tuple[int, int] | None = None) -> Inputs | Texts:
    """The images, of a size, that published weights of the model `name` expect."""
    if isinstance(self.inputs, Texts):
      return self.inputs
    seen = at(self.inputs, size or self.inputs.size, self.crops)
    return replace(seen, source=f"{self.seen_by}'s {name}")

  def names(self, base: str) -> Iterator[str]:
    """The published names of this entry."""
    for patch in self.patches or ('',):
      for variant in ('', *self.variants):
        yield base + (f'/{patch}' if patch else '') + (f'-{variant}' if variant else '')


def find(name: str) -> tuple[Entry, dict[str, Any]]:
  """(entry of a name, defaults of its options); raises a UserError that names similar models."""
  base, _, rest = name.partition('/')
  patch, _, variant = rest.partition('-')
  entry = MODELS.get(base)
  if entry is None:
    known = all_names()
    other_case = [full for full in known if full.lower() == name.lower()]
    raise UserError(f'model {name!r} is unknown; {nearest(name, other_case or known)}')
  if entry.patches and not whole(patch):
    raise UserError(f'model {name!r} lacks a patch size in pixels, as in {base}/{entry.patches[0]}')
  if variant not in ('', *entry.variants) or rest and not entry.patches:
    raise UserError(f'model {name!r} is unknown; {nearest(name, entry.names(base))}')
  of_patch = {'patch': int(patch)} if patch else {}
  return entry, {**entry.defaults, **entry.variants.get(variant, {}), **of_patch}


def all_names() -> dict[str, str]:
  """Every published name -> its family."""
  return {name: entry.family for base, entry in MODELS.items() for name in entry.names(base)}


def reads_text(name: str) -> bool:
  """Whether a model translates sentences, rather than looks at images."""
  return bool(name) and isinstance(find(name)[0].inputs, Texts)


def option_types() -> dict[str, Any]:
  """The type of every option of any model."""
  types: dict[str, Any] = {}
  for options in dict.fromkeys(entry.options for entry in MODELS.values()):
    types |= typing.get_type_hints(options)
  return types


def options_of(name: str, keys: Mapping[str, Any] = {}, where: str = 'model') -> Any:
  """The options of the model `name`: an instance of `Entry.options`, changed by `keys`.

  Args:
    where: what errors call the keys, such as 'config.model'.

  Raises:
    UserError: the name or a key is unknown, or a value does not fit.
  """
  try:
    entry, defaults = find(name)
  except UserError as error:
    raise UserError(f'{where}.name: {error}') from None
  if entry.patches and keys.get('patch', defaults['patch']) != defaults['patch']:
    raise UserError(
      f'{where}.patch is {keys["patch"]!r}, but the name {name!r} says {defaults["patch"]}; change '
      f'the name, and leave {where}.patch out'
    )
  return fields.build(entry.options, {**defaults, **keys}, where)


def _vit(size: Size, **entry: Any) -> Entry:
  """The entry of a ViT of this size; `entry` has other fields, and defaults besides the size."""
  defaults = size._asdict() | entry.pop('defaults', {})
  return Entry(
    **{'family': 'ViT', 'module': 'vit.ViT', 'options': ViTOptions, 'defaults': defaults} | entry
  )


# Published with; any other patch works too.
_PATCHES = {
  'S': (16, 32),
  'B': (16, 32, 8),
  'L': (16, 32),
  **dict.fromkeys(
    ('So150m', 'So400m', 'H', 'H52', 'g', 'g4', 'G', 'G4', 'g-opt', 'G-opt', 'e'), (14,)
  ),
}
# How published weights see images, by family and size. `layouts.published` has what differs for
# some of their files. timm: pretrained_cfg of timm 1.0.29.
_IMAGENET = Inputs(mean=IMAGENET_MEAN, std=IMAGENET_STD)
_WHOLE = replace(_IMAGENET, crop=1.0)
_WHOLE_FROM_384 = (384, 1.0)
# Google's own evaluation squeezes the whole image, bilinear and not antialiased
# (google-research/vision_transformer, input_pipeline.py); timm's is the one that others report.
_GOOGLE: dict[str, Any] = dict(inputs=Inputs(crop=0.9), crops=((0, 0.9), _WHOLE_FROM_384))

# As facebookresearch/deit (with timm 0.3.2) and dinov2 begin their parameters.
_TIMM = dict(init='trunc_normal', token_std=0.02)
# Touvron et al. 2021 (arXiv:2012.12877) distil through a token.
_DEIT = dict(
  family='DeiT',
  defaults=dict(exact_gelu=True, **_TIMM),
  patches=(16,),
  variants={'distilled': dict(distilled=True)},
  # facebookresearch/deit main.py, eval_crop_ratio; timm's has 0.9. At 384 pixels as timm has it.
  inputs=_IMAGENET,
  crops=((0, 0.875), _WHOLE_FROM_384),
  seen_by='facebook',
)
# Touvron et al. 2022 (arXiv:2204.07118); facebookresearch/deit models_v2.py.
_DEIT3 = dict(
  family='DeiT III',
  defaults=dict(
    exact_gelu=True,
    layerscale=1e-4,
    posemb_class=False,
    stochastic_depth_rule='constant',
    **_TIMM,
  ),
  patches=(16,),
  inputs=_WHOLE,  # README_revenge.md, --eval-crop-ratio 1.0; timm has 0.9 for in1k at 224
  seen_by='facebook',
)
# Oquab et al. 2023 (arXiv:2304.07193): made for features, without a head unless there are classes.
_DINOV2: dict[str, Any] = dict(
  family='DINOv2',
  defaults=dict(exact_gelu=True, layerscale=1e-5, **_TIMM | dict(token_std=1e-6)),
  patches=(14,),
  # arXiv:2309.16588. A position of the class token would be one more vector added to it.
  variants={'reg4': dict(registers=4, posemb_class=False)},
  inputs=replace(_WHOLE, size=(518, 518)),
)
# arXiv:2304.07193 section 6 (ViT-g): not the g of Zhai et al.; the hidden units are SwiGLU's.
_DINOV2_GIANT = Size(1536, 40, 4096, 24)


def _cait(width: int, depth: int, layerscale: float, side: int = 384) -> Entry:
  heads = width // 48
  defaults = Size(width, depth, 4 * width, heads)._asdict()
  return Entry(
    'CaiT',
    'cait.CaiT',
    CaiTOptions,
    defaults | dict(layerscale=layerscale, exact_gelu=True, init='trunc_normal'),
    inputs=replace(_WHOLE, size=(side, side)),
  )


def _hybrid(size: str, stages: tuple[int, ...], patch: int) -> Entry:
  return _vit(
    SIZES[size],
    family='hybrid',
    module='hybrid.Hybrid',
    options=HybridOptions,
    defaults=dict(stages=stages),
    patches=(patch,),
    **_GOOGLE,
  )


def _resnet(*stages: int, block: str = 'bottleneck') -> Entry:
  defaults = dict(block=block, stages=stages)
  inputs = replace(_IMAGENET, interpolation='bilinear')  # pytorch/vision references/classification
  return Entry(
    'ResNet', 'resnet.ResNet', ResNetOptions, defaults, inputs=inputs, seen_by='torchvision'
  )


def _bit(stages: tuple[int, ...], width: int, side: int = 448) -> Entry:
  """BiT-M fine-tuned on ImageNet, as timm evaluates it."""
  inputs = Inputs((side, side), crop=1.0, interpolation='bilinear')
  defaults, crops = dict(stages=stages, width=width), ((0, 0.875), _WHOLE_FROM_384)
  return Entry('BiT', 'resnet.BiT', BiTOptions, defaults, inputs=inputs, crops=crops)


def _transformer(width: int, depth: int, heads: int, dropout: float = 0.1) -> Entry:
  """Vaswani et al. 2017 (arXiv:1706.03762): ReLU, post-norm, tied embeddings."""
  defaults = Size(width, depth, 4 * width, heads)._asdict()
  return Entry(
    'Transformer',
    'transformer.Transformer',
    EncoderDecoderOptions,
    defaults | dict(mlp_kind='relu', dropout=dropout),
    inputs=Texts(),
  )


def _rnn(cell: str) -> Entry:
  return Entry('RNN', 'recurrent.Recurrent', RNNOptions, dict(cell=cell), inputs=Texts())


# By the part of a name before the slash.
MODELS: dict[str, Entry] = {
  **{
    name: _vit(size, patches=_PATCHES.get(name, (16,)), **_GOOGLE) for name, size in SIZES.items()
  },
  **{f'DeiT-{size}': _vit(SIZES[size], **_DEIT) for size in ('Ti', 'S', 'B')},
  **{f'DeiT3-{size}': _vit(SIZES[size], **_DEIT3) for size in ('S', 'M', 'B', 'L')},
  'DeiT3-H': _vit(SIZES['H'], **_DEIT3 | dict(patches=(14,))),
  **{f'DINOv2-{size}': _vit(SIZES[size], **_DINOV2) for size in ('S', 'B', 'L')},
  'DINOv2-g': _vit(
    _DINOV2_GIANT, **_DINOV2 | dict(defaults=dict(_DINOV2['defaults'], mlp_kind='swiglu'))
  ),
  # Width, depth and initial LayerScale: arXiv:2103.17239 Table 3 (heads of 48 units) and section 5;
  # LayerScale where the paper and its code differ (XXS36): facebookresearch/deit cait_models.py.
  'CaiT-XXS24': _cait(192, 24, 1e-5, 224),
  'CaiT-XXS36': _cait(192, 36, 1e-5, 224),
  'CaiT-XS24': _cait(288, 24, 1e-5),
  'CaiT-S24': _cait(384, 24, 1e-5),
  'CaiT-S36': _cait(384, 36, 1e-6),
  'CaiT-S48': _cait(384, 48, 1e-6),
  'CaiT-M36': _cait(768, 36, 1e-6),
  'CaiT-M48': _cait(768, 48, 1e-6, 448),
  # google-research/vision_transformer, vit_jax/configs/models.py.
  'R+Ti': _hybrid('Ti', (), 16),
  'R26+S': _hybrid('S', (2, 2, 2, 2), 32),
  'R26+B': _hybrid('B', (2, 2, 2, 2), 32),
  'R50+B': _hybrid('B', (3, 4, 9), 16),
  'R50+L': _hybrid('L', (3, 4, 6, 3), 32),
  'ResNet-18': _resnet(2, 2, 2, 2, block='basic'),
  'ResNet-34': _resnet(3, 4, 6, 3, block='basic'),
  'ResNet-50': _resnet(3, 4, 6, 3),
  'ResNet-101': _resnet(3, 4, 23, 3),
  'ResNet-152': _resnet(3, 8, 36, 3),
  'BiT-R50x1': _bit((3, 4, 6, 3), 64),
  'BiT-R50x3': _bit((3, 4, 6, 3), 192),
  'BiT-R101x1': _bit((3, 4, 23, 3), 64),
  'BiT-R101x3': _bit((3, 4, 23, 3), 192),
  'BiT-R152x2': _bit((3, 8, 36, 3), 128),
  'BiT-R152x4': _bit((3, 8, 36, 3), 256, 480),
  'AlexNet': Entry(
    'AlexNet',
    'convnets.AlexNet',
    AlexNetOptions,
    {},
    inputs=replace(_IMAGENET, interpolation='bilinear'),
    seen_by='torchvision',
  ),
  'LeNet-5': Entry(
    'LeNet', 'convnets.LeNet5', LeNetOptions, {}, inputs=Inputs((32, 32), (0.5,), (0.5,), 1.0)
  ),
  'RNN-GRU': _rnn('gru'),
  'RNN-LSTM': _rnn('lstm'),
  'Transformer-tiny': _transformer(128, 2, 4),
  'Transformer-small': _transformer(256, 2, 4),
  # arXiv:1706.03762 Table 3; dropout of big on English to German.
  'Transformer-base': _transformer(512, 6, 8),
  'Transformer-big': _transformer(1024, 6, 16, 0.3),
}

"""Published checkpoints by name: which model they hold, and how they see an image.

A name is timm's (`vit_base_patch16_224.augreg_in21k`), an id of Hugging Face, or that of a file as
its authors have it. timm's are read as timm evaluates them (pretrained_cfg of timm 1.0.29; tests
compare every line); the authors' as the authors do where they crop the center, else as timm does.
They differ for

  DeiT at 224           facebook 0.875 (facebookresearch/deit main.py), timm 0.9
  DeiT III at 224       facebook 1.0 (README_revenge.md), timm 0.9 if trained on in1k alone
  Google's ViT          the whole image squeezed, bilinear (google-research/vision_transformer
                        input_pipeline.py; so are Hugging Face's google/vit-*), timm 0.9 bicubic
  Google's BiT          the whole image squeezed (google-research/big_transfer), timm's crop 1.0
  DINOv2                facebook and Hugging Face 224 of 256 bicubic, timm the whole side of 518
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from vit_jax.models.inputs import IMAGENET_MEAN, IMAGENET_STD, Crops, Inputs, at
from vit_jax.models.names import MODELS
from vit_jax.models.names import find as entry_of
from vit_jax.models.texts import Texts

_SUFFIXES = r'\.(npz|safetensors)$'


class Published(NamedTuple):
  """A published checkpoint.

  Attributes:
    owner: who published it so: timm, facebook, Google, torchvision, Hugging Face.
    name: as it is published.
    model, options: ours.
    inputs: the images it expects.
    crops: of `inputs`, at other sizes.
  """

  owner: str
  name: str
  model: str
  options: Mapping[str, Any]
  inputs: Inputs
  crops: Crops = ()

  def at(self, size: tuple[int, int]) -> Inputs:
    """The images of another size."""
    if size == self.inputs.size:
      return self.inputs
    seen = at(self.inputs, size, self.crops)
    return replace(seen, source=f'{seen.source} at another size')


class _Line(NamedTuple):
  """Names of one form; groups of `pattern` fill `model`, and `side` is the size."""

  pattern: str
  model: str
  inputs: Inputs | None = None  # None: as of the model's own name
  crops: Crops = ()
  options: Mapping[str, Any] = {}


_WORDS = dict(tiny='Ti', small='S', medium='M', base='B', large='L', huge='H', giant='g')
_WORDS |= {word: word.upper() for word in ('xxs', 'xs', 's', 'm')}
_WORDS |= dict(vits='S', vitb='B', vitl='L', vitg='g')
_TAG = r'(?:\.\w+)?'
_SIDE = r'(?P<side>\d+)'

_HALF = Inputs(crop=0.9)
_HALF_95 = replace(_HALF, crop=0.95)
_IMAGENET = Inputs(mean=IMAGENET_MEAN, std=IMAGENET_STD)
_90, _95, _WHOLE = (replace(_IMAGENET, crop=crop) for crop in (0.9, 0.95, 1.0))
_518 = replace(_WHOLE, size=(518, 518))
_TV = replace(_IMAGENET, interpolation='bilinear')
_BIT = Inputs(interpolation='bilinear')
_448, _480 = (replace(_BIT, size=(side, side), crop=1.0) for side in (448, 480))
# Google's, as Hugging Face's ViTImageProcessor has them: it squeezes the whole image.
_SQUEEZED = Inputs(crop=1.0, interpolation='bilinear', aspect='change')
_DEIT_SQUEEZED = replace(_IMAGENET, aspect='change')
_BY_SIDE: Crops = ((0, 0.9), (384, 1.0))
_GAP = dict(pool='mean', layerscale=1e-6, qkv_bias=False)
_SIZES, _DEIT = '(tiny|small|base|large|huge)', '(tiny|small|base)'
_DEIT3 = 'deit3_(small|medium|base|large|huge)_patch'
_DINOV2 = 'vit_(small|base|large|giant)_patch(14)'
_DISTILLED = 'DeiT-{}/{}-distilled'
_HASH = '-[0-9a-f]{8}'

# The first line that matches holds.
_TIMM = (
  _Line(r'vit_(small|base)_patch(\d+)_(?P<side>224)\.dino', '{}/{}', _90),
  _Line(r'vit_(small)_patch(8)_(?P<side>224)', '{}/{}', _90),
  _Line(r'vit_(base|large|huge)_patch(\d+)_(?P<side>224)\.mae', '{}/{}', _90),
  _Line(rf'vit_{_SIZES}_patch(\d+)_{_SIDE}{_TAG}', '{}/{}', _HALF, _BY_SIDE),
  _Line(
    rf'vit_(medium)_patch(16)_gap_(?P<side>384){_TAG}',
    '{}/{}',
    replace(_HALF_95, aspect='change'),
    options=_GAP,
  ),
  _Line(rf'vit_(medium)_patch(16)_gap_{_SIDE}{_TAG}', '{}/{}', _HALF_95, options=_GAP),
  _Line(rf'{_DINOV2}_dinov2{_TAG}', 'DINOv2-{}/{}', _518),
  _Line(rf'{_DINOV2}_reg4_dinov2{_TAG}', 'DINOv2-{}/{}-reg4', _518),
  _Line(rf'vit_(tiny)_r_s16_p8_{_SIDE}{_TAG}', 'R+{}/16', _HALF, _BY_SIDE),
  _Line(
    rf'vit_(small|base|large)_r(26|50)_s(16|32)_{_SIDE}{_TAG}', 'R{1}+{0}/{2}', _HALF, _BY_SIDE
  ),
  _Line(rf'deit_{_DEIT}_patch(16)_{_SIDE}{_TAG}', 'DeiT-{}/{}', _90, _BY_SIDE),
  _Line(rf'deit_{_DEIT}_distilled_patch(16)_{_SIDE}{_TAG}', _DISTILLED, _90, _BY_SIDE),
  _Line(rf'{_DEIT3}(\d+)_{_SIDE}\.fb_in22k_ft_in1k', 'DeiT3-{}/{}', _WHOLE),
  _Line(rf'{_DEIT3}(\d+)_{_SIDE}{_TAG}', 'DeiT3-{}/{}', _90, _BY_SIDE),
  _Line(rf'cait_(xxs|xs|s|m)(24|36|48)_{_SIDE}{_TAG}', 'CaiT-{}{}', _WHOLE),
  _Line(r'resnetv2_(152)x(4)_bit(?:\.goog_in21k_ft_in1k)?', 'BiT-R{}x{}', _480),
  _Line(r'resnetv2_(50)x(1)_bit(?:\.goog_distilled_in1k)?', 'BiT-R{}x{}', Inputs()),
  _Line(r'resnetv2_(152)x(2)_bit(?:\.goog_teacher_in21k_ft_in1k)?', 'BiT-R{}x{}', Inputs()),
  _Line(
    r'resnetv2_(152)x(2)_bit\.goog_teacher_in21k_ft_in1k_(?P<side>384)',
    'BiT-R{}x{}',
    Inputs(crop=1.0),
  ),
  _Line(r'resnetv2_(\d+)x(\d)_bit\.goog_in21k', 'BiT-R{}x{}', _BIT),
  _Line(r'resnetv2_(\d+)x(\d)_bit(?:\.goog_in21k_ft_in1k)?', 'BiT-R{}x{}', _448),
  _Line(r'resnet(\d+)\.(?:tv|fb_ssl_yfcc100m_ft|fb_swsl_ig1b_ft)_in1k', 'ResNet-{}', _TV),
  _Line(r'resnet(\d+)\.tv2_in1k', 'ResNet-{}', replace(_TV, size=(176, 176))),
  _Line(r'resnet(\d+)\.(?:gluon|bt|am|ra|ram)_in1k', 'ResNet-{}', _IMAGENET),
  _Line(r'resnet(\d+)\.a3_in1k', 'ResNet-{}', replace(_95, size=(160, 160))),
  _Line(r'resnet(50)\.a1h_in1k', 'ResNet-{}', replace(_90, size=(176, 176))),
  _Line(r'resnet(34)\.ra4_e3600_r224_in1k', 'ResNet-{}', _HALF),
  _Line(r'resnet(\d+)(?:\.(?:a1|a1h|a2|b1k|b2k|c1|c2|d)_in1k)?', 'ResNet-{}', _95),
)
_FACEBOOK = (
  _Line(rf'deit_{_DEIT}_patch(16)_{_SIDE}{_HASH}', 'DeiT-{}/{}'),
  _Line(rf'deit_{_DEIT}_distilled_patch(16)_{_SIDE}{_HASH}', _DISTILLED),
  _Line(rf'deit_3_(small|medium|base|large)_{_SIDE}_\w+', 'DeiT3-{}/16'),
  _Line(rf'deit_3_(huge)_{_SIDE}_\w+', 'DeiT3-{}/14'),
  _Line(rf'(XXS|XS|S|M)(24|36|48)_{_SIDE}', 'CaiT-{}{}'),
  _Line(r'dinov2_(vits|vitb|vitl|vitg)14_reg4_pretrain', 'DINOv2-{}/14-reg4'),
  _Line(r'dinov2_(vits|vitb|vitl|vitg)14_pretrain', 'DINOv2-{}/14'),
)
_HUGGING_FACE = (  # what their preprocessor_config.json says
  _Line(rf'facebook/deit-{_DEIT}-patch(16)-(?P<side>224)', 'DeiT-{}/{}', _DEIT_SQUEEZED),
  _Line(rf'facebook/deit-{_DEIT}-distilled-patch(16)-(?P<side>224)', _DISTILLED, _DEIT_SQUEEZED),
  _Line(r'facebook/dinov2-with-registers-(small|base|large|giant)', 'DINOv2-{}/14-reg4', _IMAGENET),
  _Line(r'facebook/dinov2-(small|base|large|giant)', 'DINOv2-{}/14', _IMAGENET),
  _Line(rf'google/vit-(base|large|huge)-patch(\d+)-{_SIDE}(?:-in21k)?', '{}/{}', _SQUEEZED),
)
_GOOGLE = (
  # AugReg's; without res_ they are pretrained alone.
  _Line(rf'(Ti|S|B|L)_(\d+)-i\w+-.*res_{_SIDE}', '{}/{}'),
  _Line(r'(Ti|S|B|L)_(\d+)-i\w+-.*', '{}/{}'),
  _Line(rf'R_(Ti)_16-i\w+-.*res_{_SIDE}', 'R+{}/16'),
  _Line(r'R_(Ti)_16-i\w+-.*', 'R+{}/16'),
  _Line(rf'R(26|50)_(S|B|L)_(16|32)-i\w+-.*res_{_SIDE}', 'R{}+{}/{}'),
  _Line(r'R(26|50)_(S|B|L)_(16|32)-i\w+-.*', 'R{}+{}/{}'),
  _Line(r'ViT-(B|L|H)_(16|32|14)', '{}/{}'),
  _Line(r'R50\+ViT-(B|L)_(16|32)', 'R50+{}/{}'),
  # BiT is fine-tuned at 448 or 480 pixels, and pretrained at 224.
  _Line(r'BiT-[MS]-R(\d+)x(\d)-ILSVRC2012', 'BiT-R{}x{}'),
  _Line(r'BiT-[MS]-R(\d+)x(\d)', 'BiT-R{}x{}', _BIT, ((384, 1.0),)),
)
_TORCHVISION = (
  # The second weights are resized to 232 (torchvision/models/resnet.py).
  _Line(
    r'resnet(?:(50)-11ad3fa6|(101)-cd907fc2|(152)-f82ba261)',
    'ResNet-{}',
    replace(_TV, crop=224 / 232),
  ),
  _Line(rf'resnet(\d+){_HASH}', 'ResNet-{}', _TV),
)
_LINES = {
  'facebook': _FACEBOOK,
  'torchvision': _TORCHVISION,
  'Hugging Face': _HUGGING_FACE,
  'Google': _GOOGLE,
  'timm': _TIMM,
}


def find(name: str) -> Published | None:
  """The checkpoint of a name, or of a file or address with such a name; None if it is unknown."""
  # An address may end in a checksum.
  text = re.sub(_SUFFIXES, '', name.partition('#')[0].removeprefix('hf://').partition('@')[0])
  for known in dict.fromkeys((text, text.rpartition('/')[2])):
    for owner, lines in _LINES.items():
      for line in lines:
        if match := re.fullmatch(line.pattern, known):
          return _published(owner, line, known, match)
  return None


def _published(owner: str, line: _Line, name: str, match: re.Match[str]) -> Published | None:
  side = match.groupdict().get('side')
  named = match.re.groupindex.values()
  words = [word for k, word in enumerate(match.groups(), 1) if word and k not in named]
  words = [_WORDS.get(word, word) for word in words]
  model = line.model.format(*words)
  if model.partition('/')[0] not in MODELS:  # a size that is none of ours
    return None
  entry, _ = entry_of(model)
  inputs, crops = line.inputs, line.crops
  if inputs is None:
    assert not isinstance(entry.inputs, Texts)
    inputs, crops = entry.inputs, entry.crops
  size = (int(side), int(side)) if side else inputs.size
  inputs = replace(at(inputs, size, crops), source=f"{owner}'s {name}")
  return Published(owner, name, model, line.options, inputs, crops)

"""Small members of timm's families, and the same of ours: what the golden fixtures are made of."""

from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent.parent / 'golden'


class Golden(NamedTuple):
  """One fixture, timm_FAMILY.npz.

  Attributes:
    theirs, their_options: of `timm.create_model`.
    ours, our_options: of `models.build`, the number of classes among them.
    size: (H, W) of the images.
    field: of our output, what theirs returns.
  """

  theirs: str
  their_options: dict[str, Any]
  ours: str
  our_options: dict[str, Any]
  size: tuple[int, int]
  field: str = 'logits_BK'


def _vit(
  theirs: str, ours: str, num_classes: int = 5, ratio: float = 2.0, **our_options: Any
) -> Golden:
  """A ViT of width 32 and depth 2 for images that are no squares."""
  return Golden(
    theirs,
    dict(
      img_size=(24, 32),
      patch_size=8,
      embed_dim=32,
      depth=2,
      num_heads=2,
      mlp_ratio=ratio,
      num_classes=num_classes,
    ),
    ours,
    dict(num_classes=num_classes, width=32, depth=2, heads=2, mlp=64) | our_options,
    (24, 32),
    'logits_BK' if num_classes else 'features_BD',
  )


GOLDEN = {
  'vit': _vit('vit_tiny_patch16_224', 'Ti/8', exact_gelu=True),
  'deit_distilled': _vit('deit_tiny_distilled_patch16_224', 'DeiT-Ti/8-distilled'),
  'cait': Golden(
    'cait_xxs24_224',
    dict(
      img_size=(24, 32),
      patch_size=8,
      embed_dim=32,
      depth=2,
      num_heads=2,
      mlp_ratio=2.0,
      mlp_ratio_token_only=2.0,
      num_classes=5,
    ),
    'CaiT-XXS24',
    dict(num_classes=5, patch=8, width=32, depth=2, heads=2, mlp=64),
    (24, 32),
  ),
  'deit3': _vit('deit3_small_patch16_224', 'DeiT3-S/8'),
  'dinov2': _vit('vit_small_patch14_dinov2', 'DINOv2-S/8', num_classes=0),
  'dinov2_reg4': _vit('vit_small_patch14_reg4_dinov2', 'DINOv2-S/8-reg4', num_classes=0),
  # 36x44 pixels give odd feature maps. timm's stem has 64 channels at least.
  'resnet': Golden(
    'resnet18',
    dict(layers=(1, 1), channels=(64, 128), num_classes=5),
    'ResNet-18',
    dict(num_classes=5, stages=(1, 1)),
    (36, 44),
  ),
  'resnet_bottleneck': Golden(
    'resnet50',
    dict(layers=(2,), channels=(64,), num_classes=5),
    'ResNet-50',
    dict(num_classes=5, stages=(2,)),
    (36, 44),
  ),
  'bit': Golden(
    'resnetv2_50x1_bit',
    dict(layers=(1, 1), channels=(128, 256), stem_chs=32, num_classes=5),
    'BiT-R50x1',
    dict(num_classes=5, stages=(1, 1), width=32),
    (36, 44),
  ),
  'hybrid': Golden(
    'vit_small_r26_s32_224',
    dict(
      img_size=(36, 44),
      embed_dim=32,
      depth=2,
      num_heads=2,
      mlp_ratio=2.0,
      num_classes=5,
      backbone=dict(layers=(1, 1), channels=(128, 256), stem_chs=32),
    ),
    'R26+S/8',
    dict(
      num_classes=5,
      width=32,
      depth=2,
      heads=2,
      mlp=64,
      stages=(1, 1),
      resnet_width=32,
      exact_gelu=True,
      weight_epsilon='variance',
    ),
    (36, 44),
  ),
  'hybrid_without_stages': Golden(
    'vit_tiny_r_s16_p8_224',
    dict(
      img_size=(32, 48),
      patch_size=2,
      embed_dim=32,
      depth=2,
      num_heads=2,
      mlp_ratio=2.0,
      num_classes=5,
    ),
    'R+Ti/4',
    dict(
      num_classes=5, width=32, depth=2, heads=2, mlp=64, exact_gelu=True, weight_epsilon='variance'
    ),
    (32, 48),
  ),
  # Its gate and its units together are 4 times the width.
  'dinov2_giant': _vit('vit_giant_patch14_dinov2', 'DINOv2-g/8', num_classes=0, ratio=4.0),
}

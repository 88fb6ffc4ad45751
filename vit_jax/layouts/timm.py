"""timm's models, as state dicts.

ViT, DeiT, DeiT III and DINOv2 (vision_transformer.py, deit.py); CaiT (cait.py), as in
facebookresearch/deit; ResNet (resnet.py), as in pytorch/vision; BiT (resnetv2.py); hybrids
(vision_transformer_hybrid.py).
"""

from typing import Any

from vit_jax.layouts.layout import Pair
from vit_jax.layouts.modules import affine, batch_norm, conv, norm, resnet
from vit_jax.models.inputs import Inputs
from vit_jax.models.options import CaiTOptions, HybridOptions, ResNetOptions, ViTOptions

# BatchNorm's counters serve an average that no published network uses.
RESNET_IGNORED = (r'(.*\.)?num_batches_tracked',)

_OURS, _THEIRS = 'encoder/blocks/', 'blocks.{L}.'
_STEM = (
  Pair('cls', '11D', 'cls_token', '11D'),
  Pair('pos_embedding', '1ND', 'pos_embed', '1ND'),
  *affine('embedding', ('hwCD', 'D'), 'patch_embed.proj', ('DChw', 'D')),
  *affine(f'{_OURS}attention/qkv', ('LD3AE', 'L3(AE)'), f'{_THEIRS}attn.qkv', ('(3AE)D', '(3AE)')),
)
_HEAD = affine('head', ('DK', 'K'), 'head', ('KD', 'K'))


def _block(ours: str, theirs: str, scales: tuple[str, str]) -> list[Pair]:
  """A block but for how its attention reads; `scales` are their names of LayerScale's."""
  return [
    *norm(f'{ours}norm1', f'{theirs}norm1', 'L'),
    *affine(f'{ours}attention/out', ('LAED', 'LD'), f'{theirs}attn.proj', ('D(AE)', 'D')),
    Pair(f'{ours}scale1', 'LD', theirs + scales[0], 'D'),
    *norm(f'{ours}norm2', f'{theirs}norm2', 'L'),
    *affine(f'{ours}mlp/up', ('LDF', 'LF'), f'{theirs}mlp.fc1', ('FD', 'F')),
    *affine(f'{ours}mlp/down', ('LFD', 'LD'), f'{theirs}mlp.fc2', ('DF', 'D')),
    Pair(f'{ours}scale2', 'LD', theirs + scales[1], 'D'),
  ]


_GATED = f'{_OURS}mlp/gate', f'{_OURS}mlp/up'
VIT = (
  *_STEM,
  Pair('dist', '11D', 'dist_token', '11D'),
  Pair('registers', '1RD', 'reg_token', '1RD'),
  *norm(f'{_OURS}attention/q_norm', f'{_THEIRS}attn.q_norm', 'L'),
  *norm(f'{_OURS}attention/k_norm', f'{_THEIRS}attn.k_norm', 'L'),
  *affine(_GATED, ('LDF', 'LF'), f'{_THEIRS}mlp.fc1', ('(2F)D', '(2F)')),
  *_block(_OURS, _THEIRS, ('ls1.gamma', 'ls2.gamma')),
  *norm('encoder/norm', 'norm'),
  Pair('map_head/probe', '11D', 'attn_pool.latent', '11D'),
  *affine('map_head/attention/query', ('D1AE', '1(AE)'), 'attn_pool.q', ('(AE)D', '(AE)')),
  *affine('map_head/attention/kv', ('D2AE', '2(AE)'), 'attn_pool.kv', ('(2AE)D', '(2AE)')),
  *affine('map_head/attention/out', ('AED', 'D'), 'attn_pool.proj', ('D(AE)', 'D')),
  *norm('map_head/norm', 'attn_pool.norm'),
  *affine('map_head/mlp/up', ('DF', 'F'), 'attn_pool.mlp.fc1', ('FD', 'F')),
  *affine('map_head/mlp/down', ('FD', 'D'), 'attn_pool.mlp.fc2', ('DF', 'D')),
  *affine('pre_logits', ('DR', 'R'), 'pre_logits.fc', ('RD', 'R')),
  *_HEAD,
  *affine('head_dist', ('DK', 'K'), 'head_dist', ('KD', 'K')),
)

_SELF, _SELFS = f'{_OURS}attention/', f'{_THEIRS}attn.'
_CLASS, _CLASSES = 'class_blocks/attention/', 'blocks_token_only.{L}.attn.'
_GAMMAS = 'gamma_1', 'gamma_2'
CAIT = (
  *_STEM,
  *_block(_OURS, _THEIRS, _GAMMAS),
  *affine(f'{_SELF}proj_logits', ('LST', 'LT'), f'{_SELFS}proj_l', ('TS', 'T')),
  *affine(f'{_SELF}proj_weights', ('LST', 'LT'), f'{_SELFS}proj_w', ('TS', 'T')),
  *_block('class_blocks/', 'blocks_token_only.{L}.', _GAMMAS),
  *affine(f'{_CLASS}query', ('LD1AE', 'L1(AE)'), f'{_CLASSES}q', ('(AE)D', '(AE)')),
  *affine(f'{_CLASS}kv', ('LD2AE', 'L2(AE)'), (f'{_CLASSES}k', f'{_CLASSES}v'), ('(AE)D', '(AE)')),
  *norm('norm', 'norm'),
  *_HEAD,
)

_V1_PARTS = {str(k): (f'conv{k}', f'bn{k}') for k in (1, 2, 3)}
_V1_PARTS['_proj'] = 'downsample.0', 'downsample.1'
RESNET = (
  *resnet('', ('conv1', 'bn1'), 'layer{I}.{j}.', _V1_PARTS, norm=batch_norm),
  *affine('head', ('DK', 'K'), 'fc', ('KD', 'K')),
)


def _v2(ours: str, theirs: str) -> list[Pair]:
  """A ResNetV2 without its ends: BiT, and the networks below hybrids."""
  parts = {str(k): (f'conv{k}', f'norm{k}') for k in (1, 2, 3)}
  parts['_proj'] = 'downsample.conv', 'downsample.norm'
  stem = f'{theirs}stem.conv', f'{theirs}stem.norm'
  return resnet(ours, stem, theirs + 'stages.{i}.blocks.{j}.', parts)


BIT = *_v2('', ''), *norm('norm', 'norm'), *affine('head', ('DK', 'K'), 'head.fc', ('KD11', 'K'))
HYBRID = *VIT, *_v2('embedding/resnet/', 'patch_embed.backbone.')
HYBRID_WITHOUT_STAGES = (  # R+Ti/16, whose backbone is the stem itself
  *VIT,
  *conv('embedding/resnet/stem/conv', 'patch_embed.backbone.conv'),
  *norm('embedding/resnet/stem/norm', 'patch_embed.backbone.norm'),
)


def create_model(o: ViTOptions, inputs: Inputs, num_classes: int) -> str:
  """The call of timm that builds this ViT; '' where its arguments do not."""
  if o.distilled or o.mlp_kind != 'gelu' or o.representation:
    return ''
  settings = dict(img_size=inputs.size, in_chans=len(inputs.mean), num_classes=num_classes)
  words = ', '.join(f'{k}={v!r}' for k, v in (settings | vit_args(o)).items())
  return f"timm.create_model('{VIT_NAME}', {words})"


def vit_args(o: ViTOptions) -> dict[str, Any]:
  """What `timm.create_model` takes beside the size of images and the number of classes."""
  settings: dict[str, Any] = dict(patch_size=o.patch, embed_dim=o.width)
  settings |= dict(depth=o.depth, num_heads=o.heads)
  settings |= dict(mlp_ratio=o.mlp / o.width)
  for differs, those in (
    (not o.exact_gelu and o.mlp_kind == 'gelu', dict(act_layer='gelu_tanh')),
    (o.pool != 'cls', dict(class_token=False)),
    (o.pool == 'mean', dict(global_pool='avg', fc_norm=False)),
    (o.pool == 'map', dict(global_pool='map')),
    (o.posemb == 'none', dict(pos_embed='none')),
    (o.pool != 'cls' or not o.posemb_class, dict(no_embed_class=True)),
    (o.registers, dict(reg_tokens=o.registers)),
    (o.layerscale, dict(init_values=o.layerscale)),
    (o.qk_norm, dict(qk_norm=True)),
    (not o.qkv_bias, dict(qkv_bias=False)),
  ):
    settings |= those if differs else {}
  return settings


# The config.json of a folder that timm loads: architecture and what it changes in it, as
# `Layout.config` has it. {} where none of timm's is the same model.


def vit_config(o: ViTOptions, inputs: Inputs, num_classes: int) -> dict[str, Any]:
  args = vit_args(o)
  if o.representation or o.conv_stem:
    return {}
  if o.distilled:
    return _config('deit_tiny_distilled_patch16_224', args, inputs, num_classes)
  if o.mlp_kind == 'swiglu':  # its gate and its hidden units are one layer
    args['mlp_ratio'] *= 2
    if o.pool != 'cls' or o.posemb != 'learned':
      return {}
    return _config('vit_giant_patch14_dinov2', args, inputs, num_classes)
  return _config(VIT_NAME, args, inputs, num_classes)


def hybrid_config(o: HybridOptions, inputs: Inputs, num_classes: int) -> dict[str, Any]:
  name = _HYBRIDS.get((o.stages, o.patch))
  if name is None or o.representation or o.resnet_width != 64 or o.distilled:
    return {}
  args = vit_args(o)
  del args['patch_size']  # as the name says, of the feature map
  return _config(name, args, inputs, num_classes)


def cait_config(o: CaiTOptions, inputs: Inputs, num_classes: int) -> dict[str, Any]:
  if not o.exact_gelu or o.mlp_kind != 'gelu':
    return {}
  args = dict(patch_size=o.patch, embed_dim=o.width, depth=o.depth, num_heads=o.heads)
  ratio = o.mlp / o.width
  args |= dict(mlp_ratio=ratio, init_values=o.layerscale)
  args |= dict(depth_token_only=o.class_depth, mlp_ratio_token_only=ratio)
  return _config('cait_xxs24_224', args, inputs, num_classes)


def resnet_config(o: ResNetOptions, inputs: Inputs, num_classes: int) -> dict[str, Any]:
  if o.width != 64 or len(o.stages) != 4:
    return {}
  name = {'basic': 'resnet18', 'bottleneck': 'resnet50'}[o.block]
  return _config(name, dict(layers=o.stages), inputs, num_classes)


def bit_config(o: ResNetOptions, inputs: Inputs, num_classes: int) -> dict[str, Any]:
  name = _BITS.get((o.stages, o.width))
  return _config(name, {}, inputs, num_classes) if name and o.block == 'bottleneck' else {}


def _config(name: str, args: dict[str, Any], inputs: Inputs, num_classes: int) -> dict[str, Any]:
  if name not in _CONVOLUTIONAL:
    args = dict(img_size=inputs.size) | args
  if len(inputs.mean) != 3:
    args = args | dict(in_chans=len(inputs.mean))
  return {'architecture': name, 'num_classes': num_classes, 'model_args': args}


VIT_NAME = 'vit_tiny_patch16_224'
_HYBRIDS = {
  ((), 16): 'vit_tiny_r_s16_p8_224',
  ((2, 2, 2, 2), 32): 'vit_small_r26_s32_224',
  ((3, 4, 9), 16): 'vit_base_r50_s16_224',
  ((3, 4, 6, 3), 32): 'vit_large_r50_s32_224',
}
_BITS: dict[tuple[tuple[int, ...], int], str] = {
  ((3, 4, 6, 3), 64): 'resnetv2_50x1_bit',
  ((3, 4, 6, 3), 192): 'resnetv2_50x3_bit',
  ((3, 4, 23, 3), 64): 'resnetv2_101x1_bit',
  ((3, 4, 23, 3), 192): 'resnetv2_101x3_bit',
  ((3, 8, 36, 3), 128): 'resnetv2_152x2_bit',
  ((3, 8, 36, 3), 256): 'resnetv2_152x4_bit',
}
_CONVOLUTIONAL = ('resnet18', 'resnet50', *_BITS.values())

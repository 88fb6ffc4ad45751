"""The papers' words -> our values: data sets, optimizers, losses, augmentation, models, pooling."""

from typing import Any

Expected = dict[str, Any]

IMAGENET = {
  'ImageNet': 'imagenet2012',
  'ImageNet-1k': 'imagenet2012',
  'ImageNet-1k train[:99%]': 'imagenet2012',
  'ImageNet-21k': 'imagenet21k',
}
OPTIMIZERS: dict[str, Expected] = {
  'Adam': {'optim.name': 'adamw'},
  'AdamW': {'optim.name': 'adamw'},
  'adamw': {'optim.name': 'adamw'},
  'adam (mu bfloat16)': {'optim.name': 'adamw', 'optim.mu_dtype': 'bfloat16'},
  'fusedlamb': {'optim.name': 'lamb', 'optim.clip_norm': 1.0},  # apex's default max_grad_norm
  'lamb': {'optim.name': 'lamb'},
  'SGD momentum': {'optim.name': 'sgd', 'optim.momentum': 0.9},
  'SGD momentum 0.9': {'optim.name': 'sgd', 'optim.momentum': 0.9},
  'Adafactor': {'optim.name': 'adafactor'},
  'Adafactor (bfloat16 first moment, no relative step scaling, b2 capped 0.999)': {
    'optim.name': 'adafactor',
    'optim.mu_dtype': 'bfloat16',
    'optim.b2': 0.999,
  },
}
for _name in (
  'SGD momentum 0.9 (bfloat16 state)',
  'momentum, bfloat16 state',
  'SGD momentum (momentum_hp)',
  'momentum_hp',
):
  OPTIMIZERS[_name] = OPTIMIZERS['SGD momentum'] | {'optim.mu_dtype': 'bfloat16'}
LOSSES = {
  'sigmoid_xent': 'sigmoid',
  'sigmoid CE': 'sigmoid',
  'sigmoid CE (multi-label)': 'sigmoid',
  'softmax_xent': 'softmax',
  'CE': 'softmax',
  'ce': 'softmax',
  'BCE': 'bce',
  'bce': 'bce',
}
TIMM = {'auto': 'timm_rand_augment', 'rand_layers': 2, 'rand_magnitude': 9.0, 'rand_std': 0.5}
AUTO: dict[str, Expected] = {
  'rand-m9-mstd0.5-inc1': TIMM,
  '9/0.5 (rand-m9-mstd0.5-inc1)': TIMM,
  '3a': {'auto': 'three_augment'},
}
# Their names of models that have other names here: (name, options).
MODELS: dict[str, tuple[str, Expected]] = {
  'deit_small_patch16_LS': ('DeiT3-S/16', {}),
  'deit_base_patch16_LS': ('DeiT3-B/16', {}),
  'deit_large_patch16_LS': ('DeiT3-L/16', {}),
  'deit_huge_patch14_LS': ('DeiT3-H/14', {}),
  'BiT R50x1': ('BiT-R50x1', {'stages': (3, 4, 6, 3), 'width': 64}),
  'R50x1': ('BiT-R50x1', {'stages': (3, 4, 6, 3), 'width': 64}),
  'R50x2': ('BiT-R50x1', {'stages': (3, 4, 6, 3), 'width': 128}),
  'R101x1': ('BiT-R101x1', {'stages': (3, 4, 23, 3), 'width': 64}),
  'R152x1': ('BiT-R152x2', {'stages': (3, 8, 36, 3), 'width': 64}),
  'R152x2': ('BiT-R152x2', {'stages': (3, 8, 36, 3), 'width': 128}),
  # /16: stage 4 is taken away; /32: a place of stage 4 is a token (arXiv:2010.11929 section 4.1).
  'R50+ViT-B/16': ('R50+B/16', {'stages': (3, 4, 9)}),
  'R50+ViT-B/32': ('R50+B/32', {'stages': (3, 4, 6, 3)}),
  'R50+ViT-L/16': ('R50+L/16', {'stages': (3, 4, 9)}),
  'R50+ViT-L/32': ('R50+L/32', {'stages': (3, 4, 6, 3)}),
  'DeiT-B': ('DeiT-B/16', {}),
  'DeiT-S': ('DeiT-S/16', {}),
  'DeiT-Ti': ('DeiT-Ti/16', {}),
  'g/14': ('g/14', {}),
}
POOLS: dict[str, Expected] = {
  'tok, rep_size=True': {'model.pool': 'cls', 'model.representation': True},
  'gap, posemb=learn': {'model.pool': 'mean', 'model.posemb': 'learned', 'model.posemb_std': 0.0},
  'gap': {'model.pool': 'mean'},
  'MAP head, no class token, no pre-logits': {'model.pool': 'map', 'model.representation': False},
}

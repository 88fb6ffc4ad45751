"""Scaling ViT: ViTs with a MAP head by Adafactor on JFT-3B, or on data of your own as large.

    vit_jax train --config=configs/scaling_vit.py:g/14 --config.data.name=DATA

A million steps of 4,096 images (g/14, G/14: 16,384), Adafactor with its first moment in bfloat16,
lr 8e-4 with 10,000 steps of warm-up, reciprocal square root (timescale 10,000) and 50,000 steps of
cool-down to zero, clip 1, weight decay 0.03 times lr, of the head 100 times as much, sigmoid loss,
inception crop to 224 px, no class token (arXiv:2106.04560, sections 3.1 to 3.5 and appendices B
and C; google-research/big_vision configs/proj/scaling_laws/train_vit_g.py). With ',sovit' it is a
shape of arXiv:2305.13035, Table 5: batch 128, one weight decay for all.
JFT-3B is not public: DATA is a TFDS data set whose split `train` is learned from, and the last
51,200 images of which pick the best checkpoint; several labels per image are fine.
Hardware: a pod. Expected on ImageNet after fine-tuning: g/14 90.2 % (arXiv:2305.13035, Table 1),
G/14 90.45 % (arXiv:2106.04560, Table 1), So400m/14 90.3 % at 518 px; not yet run here.
"""

from ml_collections import ConfigDict, config_dict


def get_config(arg: str = 'g/14') -> ConfigDict:
  size, _, word = arg.partition(',')
  if word not in ('', 'sovit'):
    raise ValueError(f"{word} is not 'sovit'")
  c = ConfigDict()
  c.name = 'scaling_vit_' + arg.replace('/', '_').replace(',', '_')
  c.steps = 1_000_000
  large = size.startswith(('g', 'G'))
  c.batch_size = 128 if word else 16_384 if large else 4096
  c.model = ConfigDict(
    dict(name=size, pool='map', posemb_std=0.0, head_bias=-10.0, dtype='bfloat16', remat='names')
  )
  c.data = ConfigDict(
    dict(
      name=config_dict.placeholder(str),
      train='train[:-51200]',
      image_size=(224, 224),
      crop='inception',
      eval_interpolation='bilinear',
    )
  )
  c.loss = ConfigDict(dict(name='sigmoid'))
  c.optim = ConfigDict(
    dict(
      name='adafactor',
      lr=8e-4,
      b1=0.9,
      b2=0.999,
      mu_dtype='bfloat16',
      weight_decay=0.03,
      clip_norm=1.0,
      schedule='rsqrt',
      timescale=10_000,
      warmup=dict(steps=10_000),
      cooldown=dict(steps=50_000),
    )
  )
  if not word:
    c.optim.groups = dict(head=dict(match='^head/', weight_decay=100.0))
  c.evals = ConfigDict(dict(val=dict(split='train[-51200:]', every=dict(steps=10_000))))
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c

"""Hybrids on ImageNet-21k: the pretraining of "How to train your ViT?", any size.

    vit_jax train --config=configs/hybrid.py:R26+S/32

300 epochs, batch 4096, Adam at lr 1e-3 with weight decay 0.1, 10,000 steps of warm-up and cosine
decay, gradients clipped at norm 1, 224 px, mixup 0.2 (arXiv:2106.10270, section 3; the paper's
RandAugment is left out). Stages and widths are options: --config.model.stages="(2, 2, 2)".
Hardware: a pod slice. Expected on ImageNet after fine-tuning at 384 px: R+Ti/16 75.40 %, R26+S/32
83.85 %, R50+L/32 85.99 % (paper, Table 3); not yet run here.
"""

from ml_collections import ConfigDict


def get_config(size: str = 'R26+S/32') -> ConfigDict:
  c = ConfigDict()
  c.name = 'hybrid_' + size.replace('/', '_')
  c.epochs = 300.0
  c.batch_size = 4096
  c.model = ConfigDict(dict(name=size, pool='cls', dtype='bfloat16'))
  c.data = ConfigDict(
    dict(
      name='imagenet21k',
      num_classes=21_843,
      train='full[51200:]',
      image_size=(224, 224),
      eval_resize=256,
    )
  )
  c.augment = ConfigDict(dict(mixup=0.2))
  c.optim = ConfigDict(
    dict(lr=1e-3, weight_decay=0.1, clip_norm=1.0, schedule='cosine', warmup=dict(steps=10_000))
  )
  c.evals = ConfigDict(dict(val=dict(split='full[:51200]', every=dict(epochs=10.0))))
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c

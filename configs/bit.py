"""BiT on ImageNet-1k (BiT-S): upstream training, any width and depth.

    vit_jax train --config=configs/bit.py:R50x1

90 epochs, batch 4096, SGD with momentum 0.9 at lr 0.03 for each 256 images, 5,000 steps of
warm-up, 224 px (arXiv:1912.11370, section 3.2), with cosine decay in place of steps. The paper's
weight decay of 1e-4 goes through the momentum, which multiplies it by 1 / (1 - 0.9); ours does
not, so it is 1e-3. The last 1 % of `train` picks the best checkpoint.
Hardware: a pod slice. Expected: R152x4 81.3 % after fine-tuning (paper, Table 2); not yet run
here.
"""

from ml_collections import ConfigDict


def get_config(size: str = 'R50x1') -> ConfigDict:
  c = ConfigDict()
  c.name = f'bit_{size}'
  c.epochs = 90.0
  c.batch_size = 4096
  c.model = ConfigDict(dict(name=f'BiT-{size}', dtype='bfloat16'))
  c.data = ConfigDict(
    dict(
      name='imagenet2012',
      num_classes=1000,
      train='train[:99%]',
      image_size=(224, 224),
      eval_resize=256,
    )
  )
  c.optim = ConfigDict(
    dict(
      name='sgd',
      momentum=0.9,
      lr=0.48,
      weight_decay=1e-3,
      schedule='cosine',
      warmup=dict(steps=5000),
    )
  )
  c.evals = ConfigDict(
    dict(val=dict(split='train[99%:]', every=dict(epochs=10.0)), test=dict(split='validation'))
  )
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c

"""Clothes in gray, 28x28 pixels: the smallest well-known set, on a laptop's CPU.

    vit_jax train --config=configs/fashion_mnist.py

60,000 training and 10,000 test images, 10 classes. Hardware: two CPU cores.
Expected: not yet run.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.name = 'fashion_mnist'
  c.epochs = 12.0
  c.batch_size = 128
  c.model = ConfigDict(dict(name='Ti/7', width=128, depth=4, heads=4, mlp=384, pool='mean'))
  c.data = ConfigDict(
    dict(
      name='fashion_mnist',
      num_classes=10,
      image_size=(28, 28),
      channels=1,
      mean=(0.286,),
      std=(0.353,),
      crop='pad',
      crop_pad=2,
      eval_crop=1.0,
    )
  )
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  c.optim = ConfigDict(dict(lr=1e-3, weight_decay=0.05, clip_norm=1.0, warmup=dict(epochs=1.0)))
  c.evals = ConfigDict(dict(test=dict(split='test', every=dict(epochs=2.0))))
  return c

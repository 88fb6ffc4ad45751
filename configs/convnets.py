"""The networks before residual ones: AlexNet on ImageNet-1k, LeNet-5 on handwritten digits.

    vit_jax train --config=configs/convnets.py:AlexNet
    vit_jax train --config=configs/convnets.py:LeNet-5

AlexNet: 90 epochs, batch 128, SGD with momentum 0.9 at lr 0.01, 224 px (Krizhevsky et al. 2012,
section 5), with cosine decay in place of steps and random resized crops. The paper's weight decay
of 5e-4 goes through the momentum, which multiplies it by 1 / (1 - 0.9); ours does not, so it is
5e-3. The last 1 % of `train` picks the best checkpoint. Expected: 56.5 % (pytorch/vision), 59.3 %
by the paper's two towers and ten crops (Table 2); not yet run here. Hardware: one GPU.
LeNet-5: 20 epochs of MNIST as in LeCun et al. 1998, section III.B; AdamW in place of their own
second-order method. Expected: 99.05 % (paper); not yet run here. Hardware: two CPU cores.
"""

from ml_collections import ConfigDict


def get_config(name: str = 'AlexNet') -> ConfigDict:
  c = ConfigDict()
  c.name = name.lower()
  c.model = ConfigDict(dict(name=name))
  if name == 'LeNet-5':
    c.epochs = 20.0
    c.batch_size = 64
    c.data = ConfigDict(
      dict(
        name='mnist',
        num_classes=10,
        image_size=(28, 28),
        channels=1,
        mean=(0.1307,),
        std=(0.3081,),
        crop='none',
        flip=False,
        eval_crop=1.0,
      )
    )
    c.optim = ConfigDict(dict(lr=1e-3, schedule='cosine', warmup=dict(epochs=1.0)))
    c.evals = ConfigDict(dict(test=dict(split='test', every=dict(epochs=2.0))))
    return c
  c.epochs = 90.0
  c.batch_size = 128
  c.data = ConfigDict(
    dict(
      name='imagenet2012',
      num_classes=1000,
      train='train[:99%]',
      image_size=(224, 224),
      eval_interpolation='bilinear',
      crop_area=(0.08, 1.0),
      mean=(0.485, 0.456, 0.406),
      std=(0.229, 0.224, 0.225),
    )
  )
  c.optim = ConfigDict(
    dict(
      name='sgd',
      momentum=0.9,
      lr=0.01,
      weight_decay=5e-3,
      schedule='cosine',
      warmup=dict(steps=500),
    )
  )
  c.evals = ConfigDict(
    dict(val=dict(split='train[99%:]', every=dict(epochs=10.0)), test=dict(split='validation'))
  )
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c

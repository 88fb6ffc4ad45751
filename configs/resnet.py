"""ResNet on ImageNet-1k: the recipe of large minibatches, any depth.

    vit_jax train --config=configs/resnet.py:50

90 epochs, batch 1024, SGD with momentum 0.9 at lr 0.1 for each 256 images, 5 epochs of warm-up,
224 px (arXiv:1706.02677, section 5.1), with cosine decay (arXiv:1812.01187) in place of steps.
The paper's weight decay of 1e-4 goes through the momentum, which multiplies it by 1 / (1 - 0.9);
ours does not, so it is 1e-3. The last 1 % of `train` picks the best checkpoint.
Hardware: 8 GPUs. Expected: 18 69.8 %, 34 73.3 %, 50 76.1 %, 101 77.4 %, 152 78.3 % (pytorch/vision
with steps and batch 256); not yet run here.
"""

from ml_collections import ConfigDict


def get_config(depth: str = '50') -> ConfigDict:
  c = ConfigDict()
  c.name = f'resnet_{depth}'
  c.epochs = 90.0
  c.batch_size = 1024
  c.model = ConfigDict(dict(name=f'ResNet-{depth}', zero_init=True, dtype='bfloat16'))
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
      lr=0.4,
      weight_decay=1e-3,
      schedule='cosine',
      warmup=dict(epochs=5.0),
    )
  )
  c.evals = ConfigDict(
    dict(val=dict(split='train[99%:]', every=dict(epochs=10.0)), test=dict(split='validation'))
  )
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c

"""Before/After: seven ways to classify images, 1998 to 2021, on the same images and budget.

    vit_jax compare --config=configs/before_after.py

Each sees the same 8,282 training patches of earth_climate 12 times; the bag of words, which has
no epochs, sees them as often as it likes. Every network has the same augmentation, loss, optimizer
and schedule, those of today: the table compares what they are, not what was known about training
in their year. What differs is the learning rate, which held-out 6-degree cells of the training
regions choose, and the image's size where a network's strides need it. They are as narrow and
shallow as two CPU cores demand. DeiT learns half from the labels and half from the ResNet of this
table, which was trained with the same seed.
Hardware: two CPU cores, about an hour. Expected (seed 0): ViT 64.8 %, DeiT 64.2, CaiT 64.0, ResNet
62.0, LeNet-5 60.0, AlexNet 59.0, bag of words 44.7 (docs/before_after.md).
"""

from ml_collections import ConfigDict, config_dict

RATES = (3e-4, 1e-3, 3e-3)
# He et al. 2016, section 4.2: three stages for images of 32 pixels.
RESNET = dict(name='ResNet-18', stages=(2, 2, 2), width=32)
TRANSFORMER = dict(width=128, depth=4, heads=4, mlp=384)
MODELS = {
  'bag of words': dict(name=''),  # no model: see `get_comparison`
  'LeNet-5': dict(name='LeNet-5'),
  'AlexNet': dict(name='AlexNet', width=16),
  'ResNet': RESNET,
  'ViT': dict(name='Ti/8', **TRANSFORMER),
  'DeiT': dict(name='DeiT-Ti/8-distilled', **TRANSFORMER),
  # So shallow a CaiT begins with larger branches (arXiv:2103.17239, section 5).
  'CaiT': dict(name='CaiT-XXS24', **TRANSFORMER, patch=8, layerscale=0.1),
}


def get_comparison() -> list:
  rates = [{'optim.lr': rate} for rate in RATES]
  return [
    dict(name='bag of words', year=2006, method='bag_of_words'),
    dict(name='LeNet-5', year=1998, choices=rates),
    dict(name='AlexNet', year=2012, choices=rates),
    dict(name='ResNet', year=2015, choices=rates),
    dict(name='ViT', year=2020, choices=rates),
    dict(name='DeiT', year=2020, choices=rates, teacher='ResNet'),
    dict(name='CaiT', year=2021, choices=rates),
  ]


def get_config(system: str = 'ViT') -> ConfigDict:
  if system not in MODELS:
    raise ValueError(f'{system} is none of {", ".join(MODELS)}')
  pixels = 96 if system == 'AlexNet' else 32  # strides of 32 in all
  c = ConfigDict()
  c.name = 'before_after'
  c.epochs = 12.0
  c.batch_size = 64
  c.eval_batch_size = 256
  c.model = ConfigDict(MODELS[system])
  c.data = ConfigDict(
    dict(
      name='earth_climate',
      num_classes=14,
      image_size=(pixels, pixels),
      mean=(0.42, 0.41, 0.32),
      std=(0.30, 0.29, 0.32),
      crop='pad',
      crop_pad=pixels // 8,
      eval_crop=1.0,
      eval_interpolation='bilinear',  # where images are enlarged
    )
  )
  c.augment = ConfigDict(dict(dihedral=True))
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  if system == 'DeiT':
    c.loss.distill = dict(
      kind='hard', alpha=0.5, teacher=RESNET, teacher_weights=config_dict.placeholder(str)
    )
  c.optim = ConfigDict(dict(lr=1e-3, weight_decay=0.05, clip_norm=1.0, warmup=dict(epochs=1.0)))
  c.evals = ConfigDict(dict(test=dict(split='test')))
  c.log = ConfigDict(dict(every=dict(epochs=1.0)))
  return c

"""DeiT on ImageNet-1k from scratch, with or without a teacher.

    vit_jax train --config=configs/deit.py:B/16
    vit_jax train --config=configs/deit.py:S/16,distilled \\
        --config.loss.distill.teacher_weights=FILE

After the size, in any order: distilled (a token learns what the teacher decides, section 4
"hard"); soft (learns what it says instead: tau 3, a tenth of the loss); 1000 (epochs); 384 (then
fine-tunes at 384 px for 30 epochs, AdamW at lr 5e-6, weight decay 1e-8, batch 512).

300 epochs, batch 1024, AdamW at lr 1e-3, 5 epochs of warm-up from 1e-6, a cosine to 1e-5 counted by
the epoch, weight decay 0.05, EMA 0.99996, label smoothing 0.1, stochastic depth 0.1, RandAugment
(timm's rand-m9-mstd0.5-inc1), mixup 0.8 or cutmix 1.0, random erasing 0.25, 3 views of each image
in an epoch, 224 px (arXiv:2012.12877, Table 9; facebookresearch/deit main.py and README_deit.md).
Its color jitter of 0.3 never acts, because timm leaves it out beside RandAugment. The teacher, a
RegNetY-16GF of 82.9 %, is not among our models: FILE holds a ResNet-152's weights, or take any
model by --config.loss.distill.teacher.name. The last 1 % of `train` picks the best checkpoint.
Hardware: 8 GPUs; the paper took 53 hours for B/16 on 8 V100s. Expected: Ti/16 72.2 %, S/16
79.8 %, B/16 81.8 % (384 px: 83.1 %); distilled 74.5 %, 81.2 %, 83.4 %, after 1000 epochs 76.6 %,
82.6 %, 84.2 % (paper, Table 5); not yet run here.
"""

from ml_collections import ConfigDict, config_dict

WORDS = ('distilled', 'soft', '1000', '384')


def get_config(arg: str = 'S/16,distilled') -> ConfigDict:
  size, *words = arg.split(',')
  for word in words:
    if word not in WORDS:
      raise ValueError(f'{word} is none of {", ".join(WORDS)}')
  c = ConfigDict()
  c.name = 'deit_' + arg.replace('/', '_').replace(',', '_')
  c.epochs = 1000.0 if '1000' in words else 300.0
  c.batch_size = 1024
  token = '-distilled' if 'distilled' in words else ''
  c.model = ConfigDict(dict(name=f'DeiT-{size}{token}', stochastic_depth=0.1, dtype='bfloat16'))
  c.data = ConfigDict(
    dict(
      name='imagenet2012',
      num_classes=1000,
      train='train[:99%]',
      image_size=(224, 224),
      crop='random_resized',
      crop_area=(0.08, 1.0),
      interpolation='bicubic',
      repeats=3,
      mean=(0.485, 0.456, 0.406),
      std=(0.229, 0.224, 0.225),
    )
  )
  c.augment = ConfigDict(
    dict(
      auto='timm_rand_augment',
      rand_magnitude=9.0,
      rand_std=0.5,
      mixup=0.8,
      cutmix=1.0,
      erase=0.25,
      erase_fill='noise',
    )
  )
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  if 'distilled' in words or 'soft' in words:
    c.loss.distill = dict(
      **dict(kind='soft', alpha=0.1, tau=3.0) if 'soft' in words else dict(kind='hard', alpha=0.5),
      teacher=dict(name='ResNet-152', dtype='bfloat16'),
      teacher_weights=config_dict.placeholder(str),
    )
  c.optim = ConfigDict(
    dict(
      lr=1e-3,
      end_lr=1e-5,
      weight_decay=0.05,
      schedule='timm_cosine',
      warmup=dict(epochs=5.0),
      warmup_lr=1e-6,
      ema=0.99996,
    )
  )
  c.evals = ConfigDict(
    dict(val=dict(split='train[99%:]', every=dict(epochs=10.0)), test=dict(split='validation'))
  )
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  if '384' in words:
    c.then = ConfigDict(
      dict(
        name=f'{c.name}_px',
        epochs=30.0,
        batch_size=512,
        data=dict(image_size=(384, 384)),
        optim=dict(lr=5e-6, end_lr=5e-6, weight_decay=1e-8),
      )
    )
  return c

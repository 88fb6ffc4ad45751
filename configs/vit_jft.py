"""ViTs, hybrids and ResNets on JFT-300M, or on data of your own as large: the ViT paper's recipe.

    vit_jax train --config=configs/vit_jft.py:L/16,14 --config.data.name=DATA

7 epochs (a number after the size: 14, as the paper trained L/16 and R50+L/16 too; H/14 always),
batch 4096, Adam with weight decay 0.1, lr by size with 10,000 steps of warm-up and linear decay, no
dropout, inception crop to 224 px, a tanh layer before a ViT's head (arXiv:2010.11929, Table 3).
JFT-300M is not public: DATA is a TFDS data set whose split `train` is learned from, and the last
51,200 images of which pick the best checkpoint; several labels per image are fine.
Hardware: a pod; H/14 took 2,500 TPUv3-core-days (paper, Table 2). Expected on ImageNet after
fine-tuning: B/32 80.73 %, B/16 84.15 %, L/16 87.12 %, H/14 88.04 % (paper, Table 5); not yet run
here.
"""

from ml_collections import ConfigDict, config_dict

# size: (model, lr). Widths and stages that have no published weights are options.
SIZES = {
  'B/16': (dict(name='B/16'), 8e-4),
  'B/32': (dict(name='B/32'), 8e-4),
  'L/32': (dict(name='L/32'), 6e-4),
  'L/16': (dict(name='L/16'), 4e-4),
  'H/14': (dict(name='H/14'), 3e-4),
  'R50x1': (dict(name='BiT-R50x1'), 1e-3),
  'R50x2': (dict(name='BiT-R50x1', width=128), 1e-3),
  'R101x1': (dict(name='BiT-R101x1'), 8e-4),
  'R152x1': (dict(name='BiT-R152x2', width=64), 6e-4),
  'R152x2': (dict(name='BiT-R152x2'), 6e-4),
  'R50+B/16': (dict(name='R50+B/16'), 8e-4),
  'R50+B/32': (dict(name='R50+B/32', stages=(3, 4, 6, 3)), 8e-4),
  'R50+L/32': (dict(name='R50+L/32'), 2e-4),
  'R50+L/16': (dict(name='R50+L/16', stages=(3, 4, 9)), 4e-4),
}


def get_config(arg: str = 'L/16') -> ConfigDict:
  size, _, epochs = arg.partition(',')
  if size not in SIZES:
    raise ValueError(f'{size} is none of {", ".join(SIZES)}')
  model, lr = SIZES[size]
  c = ConfigDict()
  c.name = 'vit_jft_' + arg.replace('/', '_').replace(',', '_')
  c.epochs = float(epochs or (14 if size == 'H/14' else 7))
  c.batch_size = 4096
  transformer = {} if model['name'].startswith('BiT') else dict(pool='cls', representation=True)
  c.model = ConfigDict(dict(**model, **transformer, dtype='bfloat16'))
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
  c.optim = ConfigDict(dict(lr=lr, weight_decay=0.1, schedule='linear', warmup=dict(steps=10_000)))
  c.evals = ConfigDict(dict(val=dict(split='train[-51200:]', every=dict(epochs=0.5))))
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c

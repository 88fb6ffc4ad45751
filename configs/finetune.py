"""Fine-tuning as in the ViT paper, from a pretrained run.

    vit_jax train --config=configs/finetune.py:imagenet2012 --config.init_from=RUN \\
        --config.model.name=B/16

    vit_jax transfer --weights=RUN --data cifar10 oxford_iiit_pet --methods fine_tune --seeds 0 1 2

SGD with momentum 0.9, batch 512, cosine, 500 steps of warm-up (a fifth of shorter runs, as in
AugReg's recipe), clip 1, no weight decay, 384 px;
steps by data set, lr picked by sweeping {1e-3, 3e-3, 1e-2, 3e-2} (ImageNet: {3e-3 ... 6e-2}) on
the validation split (arXiv:2010.11929, Table 4; `transfer` does that, `sweep` lists it); a task of
VTAB for 2,500 steps at lr 0.01 on its 1,000 examples. The head starts at zero, positions are
resized. Data sets that the paper lacks are fine-tuned as its small ones, with a tenth of their
training images for validation.
Hardware: 8 GPUs or a small slice. Expected: B/16 from ImageNet-21k reaches 83.97 % on ImageNet,
98.95 % on CIFAR-10, 91.67 % on CIFAR-100 (paper, Table 5); not yet run here.
"""

from ml_collections import ConfigDict, config_dict

VTAB = 'vtab'  # any task of it: `transfer` names its data
# data set: (steps, train split, validation split, test split, classes)
DATASETS = {
  'imagenet2012': (20_000, 'train[:99%]', 'train[99%:]', 'validation', 1000),
  'cifar10': (10_000, 'train[:98%]', 'train[98%:]', 'test', 10),
  'cifar100': (10_000, 'train[:98%]', 'train[98%:]', 'test', 100),
  'oxford_iiit_pet': (500, 'train[:90%]', 'train[90%:]', 'test', 37),
  VTAB: (2500, 'train', '', 'test', 0),
  'oxford_flowers102': (500, 'train', 'validation', 'test', 102),
}
OTHERS = (500, 'train[:90%]', 'train[90%:]', 'test', 0)  # 0: as many classes as the data has
RATES = (0.001, 0.003, 0.01, 0.03)
IMAGENET_RATES = (0.003, 0.01, 0.03, 0.06)


def get_sweep(dataset: str = 'imagenet2012') -> list[dict]:
  if dataset == VTAB:
    return [{'optim.lr': 0.01}]
  rates = IMAGENET_RATES if dataset == 'imagenet2012' else RATES
  return [{'optim.lr': rate} for rate in rates]


def get_config(dataset: str = 'imagenet2012') -> ConfigDict:
  steps, train, val, test, num_classes = DATASETS.get(dataset, OTHERS)
  c = ConfigDict()
  c.name = 'finetune_' + dataset.replace('/', '_').replace(':', '_')
  c.steps = steps
  c.batch_size = 512
  c.init_from = config_dict.placeholder(str)
  c.model = ConfigDict(dict(name='B/16', pool='cls', dtype='bfloat16'))
  c.data = ConfigDict(
    dict(
      name=dataset,
      num_classes=num_classes,
      train=train,
      image_size=(384, 384),
      eval_resize=384,
    )
  )
  c.optim = ConfigDict(
    dict(
      name='sgd',
      momentum=0.9,
      lr=0.01,
      schedule='cosine',
      clip_norm=1.0,
      warmup=dict(steps=min(500, steps // 5)),
    )
  )
  every = dict(steps=max(100, steps // 20))
  c.evals = ConfigDict(dict(test=dict(split=test)))
  if val:
    c.evals.val = ConfigDict(dict(split=val, every=every))
    c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c

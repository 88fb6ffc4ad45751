"""Fine-tuning as in the ViT paper, from a pretrained run.

    vit_jax train --config=configs/finetune.py:imagenet2012 --config.init_from=RUN \\
        --config.model.name=B/16

SGD with momentum 0.9, batch 512, cosine, 500 steps of warm-up, clip 1, no weight decay, 384 px;
steps by data set, lr picked by sweeping {1e-3, 3e-3, 1e-2, 3e-2} (ImageNet: {3e-3 ... 6e-2}) on
the validation split (arXiv:2010.11929, Table 4). The head starts at zero, positions are resized.
Hardware: 8 GPUs or a small slice. Expected: B/16 from ImageNet-21k reaches 83.97 % on ImageNet,
98.95 % on CIFAR-10, 91.67 % on CIFAR-100 (paper, Table 5); not yet run here.
"""

from ml_collections import ConfigDict, config_dict

# data set: (steps, train split, validation split, test split, classes)
DATASETS = {
    'imagenet2012': (20_000, 'train[:99%]', 'train[99%:]', 'validation', 1000),
    'cifar10': (10_000, 'train[:98%]', 'train[98%:]', 'test', 10),
    'cifar100': (10_000, 'train[:98%]', 'train[98%:]', 'test', 100),
    'oxford_iiit_pet': (500, 'train[:90%]', 'train[90%:]', 'test', 37),
    'oxford_flowers102': (500, 'train', 'validation', 'test', 102),
}


def get_config(dataset: str = 'imagenet2012') -> ConfigDict:
  if dataset not in DATASETS:
    raise ValueError(f'{dataset} is none of {", ".join(DATASETS)}')
  steps, train, val, test, num_classes = DATASETS[dataset]
  c = ConfigDict()
  c.name = f'finetune_{dataset}'
  c.steps = steps
  c.batch_size = 512
  c.init_from = config_dict.placeholder(str)
  c.model = ConfigDict(dict(name='B/16', pool='cls', dtype='bfloat16'))
  c.data = ConfigDict(dict(name=dataset, num_classes=num_classes, train=train,
                           evals=dict(val=val, test=test), image_size=(384, 384),
                           eval_resize=384))
  c.optim = ConfigDict(dict(name='sgd', momentum=0.9, lr=0.01, schedule='cosine', clip_norm=1.0,
                            warmup=dict(steps=500)))
  c.evaluate = ConfigDict(dict(steps=max(100, steps // 20)))
  return c

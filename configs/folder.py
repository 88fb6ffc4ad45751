"""Your own images: one sub-folder a class, trained from scratch.

    vit_jax train --config=configs/folder.py --config.data.dir=DIR

DIR holds train/ and val/ (or test/), each with a sub-folder for every class; or just the
sub-folders, of which --config.data.test_fraction (0.2) is held out by file name. The run says what
it found there. Tables and archives go in as --config.data.name=table:FILE, webdataset:DIR and as
docs/datasets.md says, and what `vit_jax prepare --to=NAME` made of them as =NAME. To start from a
trained run, add --config.init_from=RUN with that run's --config.model keys.
Hardware: any; `--config.model.name=Ti/16` suits a laptop. Expected: depends on your images.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.name = 'folder'
  c.epochs = 100.0
  c.batch_size = 64
  c.model = ConfigDict(dict(name='S/16', pool='mean', stochastic_depth=0.1))
  c.data = ConfigDict(
    dict(
      name='folder',
      dir='',
      image_size=(224, 224),
      crop='random_resized',
      crop_area=(0.2, 1.0),
    )
  )
  c.augment = ConfigDict(dict(mixup=0.2))
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  c.optim = ConfigDict(
    dict(
      lr=5e-4, weight_decay=0.05, clip_norm=1.0, ema=0.999, ema_warmup=True, warmup=dict(epochs=5.0)
    )
  )
  c.evals = ConfigDict(dict(test=dict(split='test', every=dict(epochs=5.0))))
  return c

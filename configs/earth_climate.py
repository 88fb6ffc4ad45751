"""Climate from above: a small ViT on NASA Blue Marble patches, trained on a laptop's CPU.

    vit_jax train --config=configs/earth_climate.py

8,282 training and 1,906 test patches of 32x32 pixels, 14 Koeppen climates, spatially disjoint.
Hardware: two CPU cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.name = 'earth_climate'
  c.epochs = 40.0
  c.batch_size = 128
  c.baseline = 'colour_histogram'
  c.model = ConfigDict(dict(name='Ti/8', width=128, depth=4, heads=4, mlp=384, pool='mean',
                            posemb='learned', stochastic_depth=0.1))
  c.data = ConfigDict(dict(name='earth_climate', num_classes=14, image_size=(32, 32), crop='pad',
                           crop_pad=4, eval_resize=32,
                           predict=dict(world='world')))
  c.augment = ConfigDict(dict(dihedral=True, mixup=0.2))
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  c.optim = ConfigDict(dict(lr=1e-3, weight_decay=0.05, clip_norm=1.0, ema=0.995,
                            warmup=dict(epochs=3.0)))
  c.evaluate = ConfigDict(dict(epochs=5.0))
  return c

"""Writes timm_FAMILY.npz: input, output and weights of timm's small models. Needs torch and timm.

Run at the root of the repository, for all families or those named:
    python -m tests.golden.make_timm_fixtures [FAMILY ...]
Weights are rounded to float16, as which they are stored, before the output is computed.
"""

import sys

import numpy as np

from tests.weights import timm_models
from tests.weights.golden_models import FOLDER, GOLDEN
from vit_jax.layouts import files


def make(family: str) -> None:
  golden = GOLDEN[family]
  model = timm_models.timm_model(golden.theirs, **golden.their_options)
  model = model.half().float()
  weights = {
    f'weights/{name}': value.astype(np.float16) if value.dtype == np.float32 else value
    for name, value in timm_models.state(model).items()
  }
  images_BHWC = timm_models.images(golden.size).astype(np.float16).astype(np.float32)
  path = FOLDER / f'timm_{family}.npz'
  files.write(
    path,
    {'input': images_BHWC.astype(np.float16), 'output': timm_models.output_of(model, images_BHWC)}
    | weights,
  )
  print(f'{path}: {path.stat().st_size:,} bytes')


if __name__ == '__main__':
  for family in sys.argv[1:] or GOLDEN:
    make(family)

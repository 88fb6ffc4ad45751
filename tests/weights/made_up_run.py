"""A run folder as training leaves it, without the training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests.weights.made_up import TINY
from vit_jax import config
from vit_jax.parallel.processes import Processes
from vit_jax.run import Run
from vit_jax.run.identity import Identity

CLASSES = ('ant', 'bee', 'cat')
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def write_run(
  path: Path,
  variables: Mapping[int, tuple[Any, float]],
  *,
  class_names: tuple[str, ...] = CLASSES,
  image_size: tuple[int, int] = (16, 24),
  name: str = 'Ti/8',
  images: str = 'nowhere',
  **options: Any,
) -> Run:
  """
  Args:
    variables: step -> (variables, accuracy).
    images: the folder of its data.
    options: of the model.
  """
  x = config.resolve(
    {
      'steps': 10,
      'model': {'name': name, **TINY, **options},
      'data': {
        **{'name': 'folder', 'dir': images, 'eval_crop': 0.8},
        **{'image_size': image_size, 'mean': MEAN, 'std': STD},
      },
      'evals': {'val': {}},
      'checkpoint': {'best': 'val/top1', 'keep_last': 9},
    }
  )
  run = Run(path)
  run.claim(x, Identity(class_names, 9, 'digest', 10))
  with run.checkpoint_writer(x.checkpoint, Processes(x.limits)) as checkpoints:
    for step, (tree, top1) in variables.items():
      state = jax.device_put({'step': np.int32(step), **tree})
      checkpoints.save(step, state, {}, {'val/top1': top1})
  return Run(path)

"""What the storms' commands read: images, a recipe, a run folder and weights, all very small."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.fleet import Nursery, run_to_end
from tests.weights.made_up_folder import hf_folder
from vit_jax import layouts, models

RECIPE = """
from ml_collections import ConfigDict


def get_config(arg=""):
  return ConfigDict(dict(
      name='storm', steps=4, batch_size=4, eval_batch_size=4, model=dict(name='LeNet-5'),
      data=dict(name='folder', dir={folder!r}, image_size=(32, 32), channels=1, mean=(0.5,),
                std=(0.5,), eval_crop=1.0, threads=1),
      evals=dict(test=dict(split='test', every=dict(steps=2))), log=dict(every=dict(steps=1)),
      checkpoint=dict(every=dict(steps=2), minutes=0.0, best='test/top1')))


def get_comparison():
  return [dict(name='small')]
"""


class World(NamedTuple):
  """Paths below `folder`, which commands may read and must not change."""

  folder: Path
  images: Path
  recipe: Path
  run: Path
  copy: Path  # of the run, which commands may change
  vit: Path  # a weight file of a ViT of width 32
  hugging_face: Path

  @property
  def image(self) -> Path:
    return self.images / 'test' / 'a' / '000.png'


def make(folder: Path, write_images: Callable[..., None], nursery: Nursery) -> World:
  images, recipe, run = folder / 'images', folder / 'recipe.py', folder / 'run'
  for split, count in (('train', 6), ('test', 3)):
    write_images(images / split, {'a': count, 'b': count}, seed=count)
  recipe.write_text(RECIPE.format(folder=str(images)))
  run_to_end(nursery, folder / 'lives', ['train', f'--config={recipe}', f'--workdir={run}'])
  model = models.build('Ti/8', 3, width=32, depth=2, heads=2, mlp=64)
  model = model.clone(inputs=models.Inputs((16, 16)))
  variables = hf_folder(folder / 'hugging_face', 'hf', model)
  shutil.copytree(run, folder / 'copy')
  (folder / 'made').mkdir()
  (folder / 'empty').write_bytes(b'')
  (folder / 'loop').symlink_to(folder / 'loop')
  os.mkfifo(folder / 'pipe')
  os.mknod(folder / 'socket', stat.S_IFSOCK | 0o600)
  layouts.write(folder / 'vit.npz', model, variables, 'google', {'model': 'Ti/8'})
  return World(
    folder, images, recipe, run, folder / 'copy', folder / 'vit.npz', folder / 'hugging_face'
  )

"""The data sets of the ViT paper's Table 2, and the other labels and images of ImageNet's classes.

What is learned on ImageNet's training images is judged on its validation images by their labels and
by those of ReaL (arXiv:2006.07159), on ImageNet v2 (arXiv:1902.10811, matched frequency) and on
ObjectNet (Barbu et al., NeurIPS 2019).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.data import imagenet
from vit_jax.errors import UserError
from vit_jax.transfer.tasks import OtherTest, Task

CLASSES = 1000
AGREE = 0.5  # of the classes, whose names must be ours: else ObjectNet's are counted otherwise


def objectnet_labels(source: Any) -> np.ndarray:
  """The ImageNet classes of each image: bool [N, 1000], none for 200 of the 313 folders.

  Read from the files beside the images. Any of the 1000 classes may be the model's answer.

  Raises:
    UserError: the files are not there, or do not match ImageNet's classes.
  """
  folder = Path(source.listing.store.root).parent / 'mappings'
  try:
    label_of = json.loads((folder / 'folder_to_objectnet_label.json').read_text())
    names_of = json.loads((folder / 'objectnet_to_imagenet_1k.json').read_text())
    line_of = json.loads((folder / 'pytorch_to_imagenet_2012_id.json').read_text())
    lines = (folder / 'imagenet_to_label_2012_v2').read_text().splitlines()
  except (OSError, ValueError) as error:
    raise UserError(
      f'ObjectNet has its classes in {folder}, but {error}; unpack its archive again'
    ) from None
  first = min(line_of.values())  # lines are counted from there
  class_of = {lines[line - first]: int(k) for k, line in line_of.items()}
  ours = imagenet.names()
  agree = np.mean([ours[k].lower() in names.lower() for names, k in class_of.items()])
  if agree < AGREE:
    raise UserError(
      f'{folder / "imagenet_to_label_2012_v2"} has the classes in another order than '
      "ImageNet; unpack ObjectNet's archive again"
    )
  right_FK = np.zeros((len(source.class_names), CLASSES), bool)
  for right_K, name in zip(right_FK, source.class_names, strict=True):
    found = names_of.get(label_of.get(name), '')
    right_K[[class_of[imagenet] for imagenet in found.split('; ') if imagenet]] = True
  return right_FK[source.labels]


TASKS = (
  Task(
    'ImageNet',
    'imagenet2012',
    test='validation',
    classes=CLASSES,
    others=(
      OtherTest('ImageNet ReaL', 'imagenet2012_real', 'validation', label='real_label'),
      OtherTest('ImageNet v2', 'imagenet_v2/matched-frequency', 'test'),
      # The authors framed every image in red, two pixels wide.
      OtherTest(
        'ObjectNet',
        'folder:{data_dir}/objectnet-1.0/images',
        'train+test',
        right=objectnet_labels,
        border=2,
        origin='unpack objectnet-1.0.zip of https://objectnet.dev into the data folder',
      ),
    ),
  ),
  Task('CIFAR-10', 'cifar10'),
  Task('CIFAR-100', 'cifar100'),
  Task('Pets', 'oxford_iiit_pet'),
  Task('Flowers102', 'oxford_flowers102', train='train+validation'),
)

"""The schema of the data of a run on images, and what is done to them on the device."""

from dataclasses import dataclass
from typing import Literal

from vit_jax.fields import bounded


@dataclass(frozen=True)
class ImageData:
  """Where images come from and how they become batches."""

  kind: Literal['images'] = 'images'
  name: str = 'earth_climate'  # ours, a TFDS name ('cifar10', 'imagenet2012:5.1.0'), or 'folder'
  dir: str = ''  # with name='folder': one sub-folder per class, or train/ and val/ or test/
  train: str = 'train'  # TFDS split syntax: 'train[:90%]'; or a part: 'train:kept', 'train:held'
  num_classes: int = bounded(0, 0)  # 0: as many as the data set has
  image: str = ''  # TFDS feature; '': the only Image, or the one of several called 'image'
  label: str = ''  # likewise, of type ClassLabel
  soft_label: str = ''  # feature with each class's share, to train on instead of the label
  test_fraction: float = bounded(0.2, 0.01, 0.99)  # of a folder that has no test split of its own
  image_size: tuple[int, int] = bounded((224, 224), 1)  # height, width
  channels: Literal[1, 3] = 3
  mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # of pixels in [0, 1]; taken off on the device
  std: tuple[float, ...] = bounded((0.5, 0.5, 0.5), 1e-6)
  crop: Literal['none', 'random_resized', 'pad'] = 'random_resized'
  crop_area: tuple[float, float] = bounded((0.05, 1.0), 1e-3, 1.0)
  crop_aspect: tuple[float, float] = bounded((0.75, 4 / 3), 0.1, 10.0)
  crop_pad: int = bounded(4, 0)  # with crop='pad': pixels of reflection on each side
  flip: bool = True  # left-right
  resize: Literal['crop', 'whole'] = 'crop'  # without a random crop; 'whole' changes the aspect
  eval_resize: int = bounded(0, 0)  # shorter side before the central crop; 0: image_size / 0.875
  on_bad_record: Literal['raise', 'skip'] = 'raise'
  cache: Literal['auto', 'never', 'always'] = 'auto'  # keep images in memory
  threads: int = bounded(0, 0)  # 0: one per core
  prefetch: int = bounded(2, 1)  # batches ahead on the device


@dataclass(frozen=True)
class Augment:
  """Runs on the device. All off by default."""

  dihedral: bool = False  # the eight turns and reflections of a square
  brightness: float = bounded(0.0, 0, 1)
  contrast: float = bounded(0.0, 0, 1)
  saturation: float = bounded(0.0, 0, 1)
  erase: float = bounded(0.0, 0, 1)  # probability of a random gray rectangle
  mixup: float = bounded(0.0, 0)  # Beta(alpha, alpha); 0: off (Zhang et al. 2018)
  cutmix: float = bounded(0.0, 0)  # likewise (Yun et al. 2019); with both on, a fair coin a batch

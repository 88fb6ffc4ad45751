"""The schema of the data of a run on images, and of what augments them."""

from dataclasses import dataclass
from typing import Literal

from vit_jax.errors import UserError
from vit_jax.fields import bounded
from vit_jax.models.inputs import Aspect, Interpolation, check_antialias

# Data as people have them, by config.data.name; NAME:PLACE also says where.
LISTED = {
  'folder': 'the folder of images, one sub-folder per class, as in --config.data.dir=DIR',
  'table': 'a .csv, .tsv, .jsonl or .parquet file, as in --config.data.name=table:FILE',
  'huggingface': 'the folder of parquet or arrow files, as in --config.data.name=huggingface:DIR',
  'webdataset': 'the folder of tar shards, as in --config.data.name=webdataset:DIR',
  'ilsvrc': 'the folder of ILSVRC2012_img_*.tar, as in --config.data.name=ilsvrc:DIR',
}


@dataclass(frozen=True)
class ImageData:
  """Where images come from and how they become batches."""

  kind: Literal['images'] = 'images'  # 'images' or 'pairs'
  name: str = 'earth_climate'  # ours, of TFDS ('imagenet2012:5.1.0'), or yours: folder, table, ...
  dir: str = ''  # of your own: the folder or file
  train: str = 'train'  # TFDS split syntax: 'train[:90%]'; or a part: 'train:kept', 'train:held'
  num_classes: int = bounded(0, 0)  # 0: as many as the data set has
  # A TFDS feature, or a column; '': the only Image, or the one of several called 'image'.
  image: str = ''
  label: str = ''  # likewise, of type ClassLabel; columns with commas between: several classes
  label_separator: str = ''  # of a table: what separates the classes of one cell, such as '|'
  split_by: str = ''  # of a table: the column that names the split; '': the one called 'split'
  group_by: str = ''  # likewise what stays together; of a folder 'file': not the sub-folders
  layout: Literal['auto', 'splits', 'classes'] = 'auto'  # what the folders at the top are
  soft_label: str = ''  # feature with each class's share, to train on instead of the label
  test_fraction: float = bounded(0.2, 0.01, 0.99)  # of data that have no splits of their own
  image_size: tuple[int, int] = bounded((224, 224), 1, 2**15)  # height, width
  channels: int = bounded(3, 1, 2**12)  # 1: luminance, 3: RGB, or as many as the images have
  mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # of pixels in [0, 1]; taken off on the device
  std: tuple[float, ...] = bounded((0.5, 0.5, 0.5), 1e-6)  # likewise; what they are divided by
  # Of training (docs/augmentation.md).
  crop: Literal['none', 'random_resized', 'inception', 'simple', 'resized', 'pad'] = (
    'random_resized'
  )
  crop_area: tuple[float, float] = bounded((0.05, 1.0), 1e-3, 1.0)  # share of the image
  crop_aspect: tuple[float, float] = bounded((0.75, 4 / 3), 0.1, 10.0)  # width over height
  # Of crop 'pad' and 'simple': pixels of reflection on each side.
  crop_pad: int = bounded(4, 0, 2**15)
  # Of crop 'resized': height, width before it.
  crop_resize: tuple[int, int] = bounded((0, 0), 0, 2**15)
  interpolation: Literal['bilinear', 'bicubic', 'random'] = 'bilinear'  # of training
  # How often an image of a class of n is shown: 0: once an epoch; 1: each class as often; 0.5: its
  # class in proportion to the square root of n.
  balance: float = bounded(0.0, 0, 1)
  repeats: int = bounded(1, 1)  # augmented views of an image that follow each other
  flip: bool = True  # left-right
  # How an evaluation sees an image, and training without a random crop: as `models.Inputs`.
  eval_crop: float = bounded(0.875, 0.05, 1.0)  # side of the central crop over the shorter side
  eval_interpolation: Interpolation = 'bicubic'  # of evaluation
  eval_aspect: Aspect = 'keep'  # 'change': the whole image is squeezed into the shape
  eval_antialias: bool = True  # False: TensorFlow's bilinear
  # Of stored pixels.
  upright: bool = True  # turn images as their EXIF data say
  white: float = bounded(0.0, 0)  # what is white in more than 8 bits; 0: by each image's range
  on_bad_record: Literal['raise', 'skip'] = 'raise'  # an image that cannot be decoded
  cache: Literal['auto', 'never', 'always'] = 'auto'  # keep images in memory
  threads: int = bounded(0, 0, 2**12)  # 0: one per core
  prefetch: int = bounded(2, 1, 2**12)  # batches ahead on the device

  def __post_init__(self):
    check_antialias(self.eval_antialias, self.eval_interpolation, 'eval_')


@dataclass(frozen=True)
class Augment:
  """What is done to the images of training and their labels (docs/augmentation.md). All off.

  In this order: `auto` and the colors on the loader's threads; then on the device, where they cost
  next to nothing, the rest.
  """

  # RandAugment of big_vision or of timm (rand-m9-mstd0.5-inc1), or 3-Augment.
  auto: Literal['none', 'rand_augment', 'timm_rand_augment', 'three_augment'] = 'none'
  rand_layers: int = bounded(2, 1, 16)  # operations per image, of both RandAugments
  rand_magnitude: float = bounded(9.0, 0, 30)  # out of 10
  rand_std: float = bounded(0.0, 0)  # of the magnitude, of timm's
  brightness: float = bounded(0.0, 0, 1)  # factors in [1 - x, 1 + x], in random order
  contrast: float = bounded(0.0, 0, 1)  # likewise
  saturation: float = bounded(0.0, 0, 1)  # likewise
  dihedral: bool = False  # the eight turns and reflections of a square
  erase: float = bounded(0.0, 0, 1)  # probability of a random rectangle
  erase_fill: Literal['noise', 'gray'] = 'noise'  # for each pixel, N(0, 1) once normalized
  mixup: float = bounded(0.0, 0)  # Beta(alpha, alpha); 0: off (Zhang et al. 2018)
  cutmix: float = bounded(0.0, 0)  # likewise (Yun et al. 2019); with both on, a fair coin a batch
  mix: Literal['batch', 'example'] = 'batch'  # what lambda is drawn for

  @property
  def mixes(self) -> bool:
    return self.mixup > 0 or self.cutmix > 0


def check_augment(data: ImageData, augment: Augment, batch_size: int) -> None:
  """Refuses keys that do not fit each other.

  Raises:
    UserError: what, and what would be right.
  """
  if augment.saturation and data.channels != 3:
    raise UserError('config.augment.saturation needs color: config.data.channels must be 3')
  if augment.auto != 'none' and data.channels not in (1, 3):
    raise UserError(
      f'config.augment.auto is {augment.auto!r}, which is for gray and color images, but '
      f"config.data.channels is {data.channels}; set it to 'none'"
    )
  if augment.dihedral and data.image_size[0] != data.image_size[1]:
    raise UserError(
      'config.augment.dihedral turns square images, but config.data.image_size is '
      f'{data.image_size[0]} x {data.image_size[1]}'
    )
  if augment.rand_std and augment.auto != 'timm_rand_augment':
    raise UserError(
      f'config.augment.rand_std is {augment.rand_std:g}, but config.augment.auto is '
      f"{augment.auto!r}; only 'timm_rand_augment' draws magnitudes"
    )
  if data.crop == 'resized' and any(
    side < target for side, target in zip(data.crop_resize, data.image_size, strict=True)
  ):
    raise UserError(
      f"config.data.crop is 'resized', but config.data.crop_resize is {data.crop_resize}; it must "
      f'be at least config.data.image_size, {data.image_size}'
    )
  # Rows half a batch apart are mixed (data/augment.py).
  if data.repeats > 1 and augment.mixes and batch_size < 2 * data.repeats:
    raise UserError(
      f'config.batch_size is {batch_size}: with config.data.repeats {data.repeats}, mixup and '
      f'CutMix need at least {2 * data.repeats}, or views of one image would be mixed'
    )

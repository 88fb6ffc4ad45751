"""Draws docs/augmentation.png, each operation of docs/augmentation.md on a photograph.

    python docs/augmentation.py

The photographs come with scikit-learn: china.jpg by danielbuechele and flower.jpg by vultilion, on
Flickr, both CC BY 2.0.
"""

from pathlib import Path

import jax
import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image

from vit_jax.config import Augment, ImageData, Loss
from vit_jax.data.policies import Operation, policies
from vit_jax.data.train_view import TrainView
from vit_jax.data.view import View, inputs_of
from vit_jax.train.task import Classification

SIDE, GAP, TEXT, COLUMNS = 80, 4, 12, 9
GRAY = (128, 128, 128)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Tiles = list[tuple[str, np.ndarray]]


def photo(name: str) -> np.ndarray:
  image = Image.fromarray(load_sample_image(name)).crop((106, 0, 533, 427))
  return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def operations(x_HWC: np.ndarray) -> Tiles:
  moved = 'bicubic', GRAY
  shown = {
    'auto_contrast': (),
    'equalize': (),
    'invert': (),
    'rotate': (27.0, *moved),
    'posterize': (1,),
    'solarize': (128,),
    'solarize_add': (99,),
    'saturation': (1.81,),
    'contrast': (1.81,),
    'brightness': (1.6,),
    'sharpness': (1.81,),
    'shear_x': (0.27, *moved),
    'shear_y': (0.27, *moved),
    'translate_x': (25.0, *moved),
    'translate_y': (25.0, *moved),
    'cut_out': (30, 50, 18, GRAY),
    'grayscale': (),
    'blur': (1.5,),
  }
  return [('image', x_HWC)] + [(n, Operation(n, args)(x_HWC)) for n, args in shown.items()]


def policy_tiles(x_HWC: np.ndarray) -> Tiles:
  data, rng = ImageData(image_size=(SIDE, SIDE), mean=MEAN), np.random.default_rng(3)
  jitter = dict(brightness=0.3, contrast=0.3, saturation=0.3)
  named = {
    'rand_augment': Augment(auto='rand_augment', rand_magnitude=15.0),
    'timm_rand_aug.': Augment(auto='timm_rand_augment', rand_std=0.5),
    'three_augment': Augment(auto='three_augment', **jitter),
    'jitter 0.3': Augment(**jitter),
  }
  tiles = []
  for name, augment in named.items():
    for _ in range(2):
      out_HWC = x_HWC
      for policy in policies(data, augment):
        for operation in policy.draw(rng.random(policy.count).tolist()):
          out_HWC = operation(out_HWC)
      tiles.append((name, out_HWC))
  return tiles


def crop_tiles(name: str) -> Tiles:
  record, rng = load_sample_image(name), np.random.default_rng(5)
  tiles = []
  for crop in ('random_resized', 'inception', 'simple', 'resized'):
    data = ImageData(
      image_size=(SIDE, SIDE),
      crop=crop,
      interpolation='bicubic',
      crop_resize=(SIDE + 20, SIDE + 20),
    )
    view = TrainView(data, Augment(), View.of(inputs_of(data)))
    for _ in range(2):
      out_HWC = np.empty((SIDE, SIDE, 3), np.uint8)
      view(record, out_HWC, rng.random(view.count))
      tiles.append((crop, out_HWC))
  return tiles


def device_tiles(x_HWC: np.ndarray, y_HWC: np.ndarray) -> Tiles:
  named = {
    'dihedral': dict(dihedral=True),
    'erase, noise': dict(erase=1.0),
    'erase, gray': dict(erase=1.0, erase_fill='gray'),
    'mixup': dict(mixup=0.8),
    'cutmix': dict(cutmix=1.0),
  }
  tiles = []
  for name, keys in named.items():
    task = Classification(2, Loss(), Augment(**keys), MEAN, STD)
    batch = {'image': np.stack([x_HWC, y_HWC]), 'label': np.arange(2), 'mask': np.ones(2, bool)}
    images, _ = task.inputs(task.drawn(batch, jax.random.key(9)))
    pixels = 255 * (np.asarray(images) * STD + MEAN)
    tiles += [(name, pixel.clip(0, 255).astype(np.uint8)) for pixel in pixels]
  return tiles


def main() -> None:
  x_HWC, y_HWC = photo('flower.jpg'), photo('china.jpg')
  tiles = operations(x_HWC) + policy_tiles(x_HWC) + crop_tiles('flower.jpg')
  tiles += device_tiles(x_HWC, y_HWC)
  rows = -(-len(tiles) // COLUMNS)
  sheet = Image.new('RGB', (COLUMNS * (SIDE + GAP), rows * (SIDE + TEXT + GAP)), 'white')
  pen = ImageDraw.Draw(sheet)
  for i, (name, pixels) in enumerate(tiles):
    x, y = i % COLUMNS * (SIDE + GAP), i // COLUMNS * (SIDE + TEXT + GAP)
    pen.text((x, y), name, 'black', font_size=10)
    sheet.paste(Image.fromarray(pixels), (x, y + TEXT))
  place = Path(__file__).with_suffix('.png')
  sheet.quantize(48, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(place, optimize=True)
  print(f'{place.stat().st_size / 1e3:.0f} kB')


if __name__ == '__main__':
  main()

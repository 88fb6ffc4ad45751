"""Makes augment_torch.npz: what torchvision and timm draw and do, for tests/data/test_policies.py.

    python tests/golden/make_augment_fixtures.py

in an environment with torchvision 0.29, timm 1.0 and scikit-learn (its flower.jpg, by vultilion, CC
BY 2.0). It holds pictures of torchvision's ColorJitter and RandomResizedCrop's boxes, and the
operations and arguments of timm's RandAugment, drawn 20,000 times.
"""

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data import auto_augment
from torchvision import transforms
from torchvision.transforms import functional as F

DRAWS = 20_000
PLACE = Path(__file__).parent / 'augment_torch.npz'
# (order of brightness, contrast, saturation; their factors)
JITTERS = [((0, 1, 2), (0.7, 1.2, 0.8)), ((2, 1, 0), (1.3, 0.75, 1.25)), ((1, 2, 0), (1, 1.3, 0.7))]


def flower() -> Image.Image:
  return Image.fromarray(load_sample_image('flower.jpg')).resize((64, 48), Image.Resampling.BOX)


def jittered() -> np.ndarray:
  functions = F.adjust_brightness, F.adjust_contrast, F.adjust_saturation
  out = []
  for order, factors in JITTERS:
    image = flower()
    for i in order:
      image = functions[i](image, factors[i])
    out.append(np.asarray(image))
  return np.stack(out)


def orders() -> np.ndarray:
  """The order of the three factors, and the factors, of ColorJitter(0.3, 0.3, 0.3)."""
  found = []
  for _ in range(DRAWS):
    order, *factors, _ = transforms.ColorJitter.get_params((0.7, 1.3), (0.7, 1.3), (0.7, 1.3), None)
    places = [order.tolist().index(i) for i in range(3)]
    found.append([*np.argsort(places), *factors])
  return np.array(found, np.float32)


def boxes(width: int, height: int, scale: tuple[float, float]) -> np.ndarray:
  image = torch.zeros(3, height, width)
  draw = transforms.RandomResizedCrop.get_params
  return np.array([draw(image, scale, (3 / 4, 4 / 3)) for _ in range(DRAWS)], np.int16)


def timm_draws() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Of rand-m9-mstd0.5: the operations applied, their first arguments; how many per picture."""
  policy = auto_augment.rand_augment_transform('rand-m9-mstd0.5-inc1', {'translate_pct': 0.45})
  seen: list[tuple[int, float]] = []
  for i, op in enumerate(policy.ops):

    def record(image, *args, which=i, **kwargs):
      seen.append((which, float(args[0]) if args else 0.0))
      return image

    op.aug_fn = record
  counts, everything = [], []
  for _ in range(DRAWS):
    seen.clear()
    policy(None)
    counts.append(len(seen))
    everything += seen
  which, values = zip(*everything, strict=True)
  return np.array(which, np.int8), np.array(values, np.float32), np.array(counts, np.int8)


def main() -> None:
  random.seed(0)
  np.random.seed(0)
  torch.manual_seed(0)
  which, values, counts = timm_draws()
  np.savez_compressed(
    PLACE,
    flower=np.asarray(flower()),
    jittered=jittered(),
    jitter_orders=orders()[:, :3].astype(np.int8),
    timm_which=which,
    timm_values=values.astype(np.float16),
    timm_counts=counts,
    boxes_wide=boxes(500, 375, (0.05, 1.0)),
    boxes_long=boxes(300, 800, (0.5, 1.0)),
  )
  print(PLACE.stat().st_size)


if __name__ == '__main__':
  main()

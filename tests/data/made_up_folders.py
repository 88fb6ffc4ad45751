"""Small pictures, and folders of them."""

import cv2
import numpy as np


def picture(mean, seed, suffix='.png'):
  noise = np.random.default_rng([int(mean), seed]).normal(mean, 20, (20, 20, 3))
  return cv2.imencode(suffix, noise.clip(0, 255).astype(np.uint8))[1].tobytes()


def write(folder, counts, suffix='.png', seed=0, first=0):
  """Class folder -> images."""
  for k, (name, count) in enumerate(counts.items()):
    (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
      (folder / name / f'{i:03}{suffix}').write_bytes(picture(30 + 90 * (k % 3), seed + i, suffix))
  return folder

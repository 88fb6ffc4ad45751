"""A source of tiny images, a view of them, and what stands in for a model's features."""

import numpy as np


class MadeUp:
  """Images whose first pixel shows the class; counts how often each is read."""

  name, split, class_names, metadata = 'made_up', 'train', ('a', 'b', 'c'), {}

  def __init__(self, count: int):
    rng = np.random.default_rng(0)
    self.labels_N = rng.integers(0, 3, count)
    self.images_NHWC = rng.integers(0, 200, (count, 16, 16, 3), np.uint8)
    self.images_NHWC[:, 0, 0] = (
      20 * self.labels_N[:, None] + rng.integers(0, 9, (count, 3))
    ).astype(np.uint8)
    self.times_read = np.zeros(count, int)

  def __len__(self):
    return len(self.labels_N)

  def read(self, indices):
    for index in indices:
      self.times_read[index] += 1
    return [(self.images_NHWC[i], int(self.labels_N[i])) for i in indices]

  def column(self, name):
    return np.arange(len(self)) % 4 if name == 'style' else None

  def label_sets(self):
    return None

  def groups(self):
    return np.arange(len(self))[:, None]

  def where(self, index):
    return f'row {index}'

  def content(self):
    return self.images_NHWC.tobytes() + self.labels_N.tobytes()

  def digest(self):
    return str(hash(self.content()))


class FirstPixels:
  """A backbone whose features are the first pixels; counts the examples that it was asked for."""

  def __init__(self, fingerprint: str = 'a'):
    self.name, self.fingerprint, self.asked = 'made up', fingerprint, []

  def features(self, source, pulse):
    self.asked.append(len(source))
    return source.images_NHWC[:, 0, 0].astype(np.float32), source.labels_N.copy()

"""What augmentation costs: `python docs/augmentation_cost.py loader|against_tf|device CHIPS`.

`loader` prints images/s of one core that decodes, crops to 224 and augments JPEGs of 500 x 375, the
median of several rounds in which the recipes take turns. `device` compiles the step of ViT-B/16
with and without DeiT's random erasing, mixup and CutMix, as `vit_jax plan` does (docs/plan.md), and
prints what each reads and computes; it needs the compilers of those chips, no device. `against_tf`
times a random crop and a flip beside tf.data's, in turns; it needs `pip install tensorflow`.
"""

import statistics
import sys
import time

import cv2
import numpy as np

BATCH = 64  # per chip
ROUNDS, IMAGES = 15, 24
IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
JITTER = dict(brightness=0.3, contrast=0.3, saturation=0.3)
# name: (the crop, what it is compared with, augmentation)
LOADER = {
  'random_resized, bilinear': (dict(crop='random_resized'), '', {}),
  'inception, bilinear': (dict(crop='inception'), '', {}),
  'random_resized, bicubic': (dict(crop='random_resized', interpolation='bicubic'), '', {}),
  'simple, bicubic': (dict(crop='simple', interpolation='bicubic'), '', {}),
  'inception + rand_augment(2, 15)': (
    dict(crop='inception'),
    'inception, bilinear',
    dict(auto='rand_augment', rand_magnitude=15.0),
  ),
  'bicubic + timm_rand_augment(9, 0.5)': (
    dict(crop='random_resized', interpolation='bicubic'),
    'random_resized, bicubic',
    dict(auto='timm_rand_augment', rand_std=0.5),
  ),
  'simple + three_augment + jitter 0.3': (
    dict(crop='simple', interpolation='bicubic'),
    'simple, bicubic',
    dict(auto='three_augment', **JITTER),
  ),
  'bilinear + jitter 0.3': (
    dict(crop='random_resized'),
    'random_resized, bilinear',
    JITTER,
  ),
}


def photographs() -> list[bytes]:
  """JPEGs of 500 x 375 at the size of ImageNet's, 110 kB on average."""
  from sklearn.datasets import load_sample_images

  found = []
  for image_HWC in load_sample_images().images:
    for top, left in ((0, 0), (30, 100), (52, 140)):
      cut_HWC = image_HWC[top : top + 375, left : left + 500, ::-1]
      quality = [cv2.IMWRITE_JPEG_QUALITY, 94]
      found.append(cv2.imencode('.jpg', cut_HWC, quality)[1].tobytes())
  return found


def loader() -> None:
  from vit_jax.config import Augment, ImageData
  from vit_jax.data.loader import uniforms
  from vit_jax.data.train_view import TrainView
  from vit_jax.data.view import View, inputs_of

  cv2.setNumThreads(0)
  records = photographs()
  print(f'JPEGs of {np.mean([len(r) for r in records]) / 1e3:.0f} kB on average')
  views = {}
  for name, (crop, _, augment) in LOADER.items():
    data = ImageData(**crop, **IMAGENET)
    views[name] = TrainView(data, Augment(**augment), View.of(inputs_of(data)))
  out_HWC = np.empty((224, 224, 3), np.uint8)
  seconds = {name: [] for name in views}
  for turn in range(ROUNDS):
    for name, view in views.items():
      position_b = np.arange(turn * IMAGES, (turn + 1) * IMAGES)
      began = time.thread_time()  # of this thread: other programs may share the core
      for i, uniform_U in enumerate(uniforms(0, position_b, view.count)):
        view(records[i % len(records)], out_HWC, uniform_U)
      seconds[name].append((time.thread_time() - began) / IMAGES)
  rate = {name: 1 / statistics.median(found) for name, found in seconds.items()}
  print('| on a thread of the loader | images/s per core | of the same crop alone |\n|---|---|---|')
  for name, (_, base, _) in LOADER.items():
    kept = f'{rate[name] / rate[base]:.0%}' if base else ''
    print(f'| {name} | {rate[name]:.0f} | {kept} |')


def against_tf() -> None:
  """images/s per core of ours, crops decoded whole or alone, and of tf.data.

  By the CPU time of the process: pin it to one core.
  """
  import tensorflow as tf

  from vit_jax.config import Augment, ImageData
  from vit_jax.data import region
  from vit_jax.data.loader import uniforms
  from vit_jax.data.train_view import TrainView
  from vit_jax.data.view import View, inputs_of

  tf.config.threading.set_inter_op_parallelism_threads(1)
  tf.config.threading.set_intra_op_parallelism_threads(1)
  cv2.setNumThreads(0)
  records, installed = photographs(), region.available()
  out_HWC = np.empty((224, 224, 3), np.uint8)

  def ours(crop: str, alone: bool):
    data = ImageData(crop=crop, **IMAGENET)
    view = TrainView(data, Augment(), View.of(inputs_of(data)))

    def show(start: int, count: int) -> None:
      region.available = lambda: alone
      for i, uniform_U in enumerate(uniforms(0, np.arange(start, start + count), view.count)):
        view(records[i % len(records)], out_HWC, uniform_U)

    return show

  def theirs(antialias: bool):
    def show_one(record):
      box = tf.image.sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(record),
        tf.zeros([0, 0, 4]),
        area_range=(0.05, 1.0),
        min_object_covered=0.0,
        use_image_if_no_bounding_boxes=True,
      )
      window = tf.concat([box[0][:2], box[1][:2]], 0)
      image_HWC = tf.image.decode_and_crop_jpeg(record, window, channels=3)
      image_HWC = tf.image.resize(image_HWC, (224, 224), antialias=antialias)
      return tf.cast(tf.image.random_flip_left_right(image_HWC), tf.uint8)

    stream = tf.data.Dataset.from_tensor_slices(records).repeat()
    images = iter(stream.map(show_one, num_parallel_calls=1).prefetch(1))

    def show(start: int, count: int) -> None:
      for _ in range(count):
        next(images)

    return show

  contenders = {
    f'{crop}, {"the crop alone" if alone else "all"} decoded': ours(crop, alone)
    for crop in ('random_resized', 'inception')
    for alone in ((False, True) if installed else (False,))
  }
  contenders |= {'tf.data': theirs(False), 'tf.data, antialiased': theirs(True)}
  seconds = {name: [] for name in contenders}
  for turn in range(ROUNDS):
    for name, show in contenders.items():
      show(turn, 10)  # what the others left in caches
      began = time.process_time()
      show(turn, 10 * IMAGES)
      seconds[name].append((time.process_time() - began) / (10 * IMAGES))
  rate = {name: 1 / statistics.median(found) for name, found in seconds.items()}
  print(f'JPEGs of {np.mean([len(r) for r in records]) / 1e3:.0f} kB on average')
  for name in rate:
    beside = ' | '.join(
      f'{rate[name] / rate[other]:.2f}' for other in rate if other.startswith('tf')
    )
    print(f'| {name} | {rate[name]:.0f} | {beside} |')


DEVICE = {
  'none': {},
  'erase 0.25, mixup 0.8, cutmix 1.0': dict(erase=0.25, mixup=0.8, cutmix=1.0),
}


def device(topologies: list[str]) -> None:
  from vit_jax import config
  from vit_jax.parallel import topology
  from vit_jax.plan import costs, hlo, program

  print('| chip | on the device | HBM GB per step | TFLOP of products | TFLOP by XLA |')
  print('|---|---|---|---|---|')
  for name in topologies:
    where = topology.parse(name)
    for words, augment in DEVICE.items():
      keys = dict(
        epochs=1.0,
        batch_size=BATCH * where.chips,
        model=dict(name='B/16', dtype='bfloat16', stochastic_depth=0.1),
        data=dict(name='imagenet2012', num_classes=1000, **IMAGENET),
        augment=augment,
        optim=dict(weight_decay=0.05),
      )
      case = program.Case(config.resolve(keys), where, 1_281_167, 1000)
      executable = program.lower(case).lowered.compile()
      module = hlo.parse(hlo.strip(executable.as_text()))
      own = executable.cost_analysis() or {}
      figures = [
        costs.traffic(module) / 1e9,
        costs.flops(module) / 1e12,
        own.get('flops', 0) / 1e12,
      ]
      print(f'| {name} | {words} | ' + ' | '.join(f'{x:.4g}' for x in figures) + ' |', flush=True)


if __name__ == '__main__':
  if sys.argv[1:2] == ['loader']:
    loader()
  elif sys.argv[1:2] == ['against_tf']:
    against_tf()
  else:
    device(sys.argv[2:])

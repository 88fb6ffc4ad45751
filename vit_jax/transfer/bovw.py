"""Bag of visual words and an SVM: how images were classified in the 2000s.

An image is cut into small overlapping patches, each described by SIFT (Lowe 2004). k-means over
the descriptors of training images gives a vocabulary, and every patch becomes its nearest word.
The words are counted in the whole image, its quarters and its sixteenths (the spatial pyramid of
Lazebnik, Schmid and Ponce, CVPR 2006, with its weights). A chi-square map (Vedaldi and Zisserman
2012) makes inner products of these counts, which a linear SVM sees, approximate their kernel.

SIFT sees edges, not colors. It describes the gray image or each of the three channels (RGB-SIFT;
descriptors concatenated), whichever does better on held-out training images. These also choose by
how much small images are enlarged first, as SIFT was made for large ones.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from vit_jax.data import decode, held_out

# What held-out training images choose from.
SIDES = (32, 64, 96, 128)  # pixels of the shorter side; an image is enlarged, never made smaller
VOCABULARIES = (200, 400)  # words, as in the paper
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)  # scikit-learn's C, the inverse of the L2 penalty

PATCH, STRIDE = 16, 6  # pixels; SIFT divides a patch into 4 x 4 parts
# The radius that OpenCV gives a part is 3/2 of a key point's size.
KEY_POINT_SIZE = PATCH / 4 * 2 / 3
GRIDS = {1: 0.25, 2: 0.25, 4: 0.5}  # cells along a side of the pyramid's levels -> weight
CELLS = sum(grid**2 for grid in GRIDS)
MAPPED = 3  # features that the chi-square map makes of one count

SOUGHT = 2000  # training images on which the side and the color are chosen
JUDGED = 10_000  # and, at most, vocabulary and strength
SAMPLE_IMAGES, SAMPLE_PATCHES = 500, 100  # what k-means sees, at most
CHUNK = 64  # images of one task of a thread; the features of one are made dense at a time


@dataclass(frozen=True)
class BagOfWords:
  """How images are cut, and the vocabulary of V words."""

  side: int  # pixels, to which the shorter side of smaller images is enlarged
  color: bool
  words_VE: np.ndarray  # float32

  def features_fn(self, images_NHWC: np.ndarray) -> np.ndarray:
    """Features of uint8 images of 1 or 3 channels: float32 [N, 63 V], rows of L2 norm 0.948.

    An image's features are the same bits in any batch.
    """
    features_ND = np.empty((len(images_NHWC), MAPPED * CELLS * len(self.words_VE)), np.float32)
    size = CHUNK * decode.cores()
    for start in range(0, len(images_NHWC), size):
      rows = slice(start, start + size)
      (counts,) = _count(images_NHWC[rows], [self])
      features_ND[rows] = _chi_square(counts).toarray()
    return features_ND


class Fitted(NamedTuple):
  """`classifier` is a scikit-learn estimator on the features of `bag`."""

  bag: BagOfWords
  classifier: Any
  strength: float  # of the SVM
  validation_top1: float  # on held-out training images


def fit(
  images_NHWC: np.ndarray, labels_N: np.ndarray, groups_N: np.ndarray | None = None, seed: int = 0
) -> Fitted:
  """Chooses side, color, vocabulary and strength, in this order, then fits the SVM on all images.

  Each choice is by accuracy on a random fifth of the images (at most SOUGHT for side and color,
  JUDGED for the others), with words and SVM fitted on the rest. The vocabulary is kept, so the
  fifth never shapes it; the SVM is fitted again, on all images. Two fits are the same bits.

  Args:
    images_NHWC: uint8, of 1 or 3 channels, at least five.
    labels_N: integers of at least two classes.
    groups_N: images of one group (overlapping patches, drawings of one thing) are held out
      together: else an image is recognized by its neighbor, and the choices follow that. By
      default each image is a group.
  """
  rng = np.random.default_rng(seed)
  groups_N = np.arange(len(labels_N)) if groups_N is None else groups_N
  order_N = rng.permutation(len(labels_N))
  with threadpool_limits(1):  # k-means on several threads sums in no fixed order
    sought, judged = order_N[:SOUGHT], order_N[:JUDGED]
    look = _look(images_NHWC[sought], labels_N[sought], groups_N[sought], rng)
    held, kept = (judged[part] for part in held_out.split(groups_N[judged, None], rng))
    bags = _bags(images_NHWC, kept, look, VOCABULARIES, rng)
    features = [_chi_square(counts) for counts in _count(images_NHWC, bags)]
    scores = [_score(rows, labels_N, kept, held) for rows in features]
    best = int(np.argmax(scores))  # of equals the smallest, here and below
    rows = features[best]
    scores = [_score(rows, labels_N, kept, held, strength) for strength in STRENGTHS]
    strength = STRENGTHS[int(np.argmax(scores))]
    return Fitted(bags[best], _svm(strength).fit(rows, labels_N), strength, max(scores))


def learn(images_NHWC: np.ndarray, labels_N: np.ndarray, groups_N: np.ndarray) -> BagOfWords:
  """A bag without its SVM, to be judged by its features as networks are.

  Side and color are chosen as by `fit`, on all of these images; the vocabulary is the smaller one,
  for the features of many images at once must fit into the memory.
  """
  rng = np.random.default_rng(0)
  with threadpool_limits(1):
    look = _look(images_NHWC, labels_N, groups_N, rng)
    return _bags(images_NHWC, np.arange(len(images_NHWC)), look, VOCABULARIES[:1], rng)[0]


def judge_bag_of_words(
  train: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  groups_N: np.ndarray | None = None,
  seed: int = 0,
) -> dict[str, Any]:
  """What `fit` chose on `train`, (images_NHWC, labels_N), and its accuracy on `test`.

  Accuracies are fractions; 'parameters' are words and SVM, 'macs' the multiply-accumulates of one
  image's products with them.
  """
  start = time.perf_counter()
  bag, classifier, strength, validation_top1 = fit(*train, groups_N, seed)
  images_NHWC, labels_N = test
  (counts,) = _count(images_NHWC, [bag])
  top1 = classifier.score(_chi_square(counts), labels_N)
  patches = _describe(images_NHWC[0], bag.side, False)[..., 0].size
  kind = 'RGB-SIFT' if bag.color else 'SIFT of the gray image'
  return {
    'top1': float(top1),
    'feature': f'dense {kind} at {bag.side} pixels, {len(bag.words_VE)} words, spatial pyramid',
    'classifier': f'linear SVM on the chi-square map, C = {strength:g}',
    'side': bag.side,
    'color': bag.color,
    'vocabulary': len(bag.words_VE),
    'strength': strength,
    'validation_top1': validation_top1,
    'parameters': bag.words_VE.size + classifier.coef_.size + classifier.intercept_.size,
    'macs': patches * bag.words_VE.size + classifier.coef_.size,
    'seconds': round(time.perf_counter() - start, 2),
  }


def _look(
  images_NHWC: np.ndarray, labels_N: np.ndarray, groups_N: np.ndarray, rng: np.random.Generator
) -> tuple[int, bool]:
  """Side and color: the best side on gray images, then whether color is better at that side."""
  held, kept = held_out.split(groups_N[:, None], rng)

  def score(side: int, color: bool) -> float:
    bags = _bags(images_NHWC, kept, (side, color), VOCABULARIES[:1], rng)
    (counts,) = _count(images_NHWC, bags)
    return _score(_chi_square(counts), labels_N, kept, held)

  shorter = min(images_NHWC.shape[1:3])
  sides = sorted({max(side, shorter) for side in SIDES})
  gray = [score(side, False) for side in sides]
  side = sides[int(np.argmax(gray))]
  has_color = bool((images_NHWC != images_NHWC[..., :1]).any())
  return side, has_color and score(side, True) > max(gray)


def _score(
  features: sparse.csr_array,
  labels_N: np.ndarray,
  kept: np.ndarray,
  held: np.ndarray,
  strength: float = 1.0,
) -> float:
  """Accuracy on the held-out rows of an SVM fitted on the kept ones."""
  classifier = _svm(strength).fit(features[kept], labels_N[kept])
  return float(classifier.score(features[held], labels_N[held]))


def _svm(strength: float) -> Any:
  from sklearn.svm import LinearSVC

  return LinearSVC(C=strength, tol=1e-3, random_state=0)


def _bags(
  images_NHWC: np.ndarray,
  kept: np.ndarray,
  look: tuple[int, bool],
  sizes: Sequence[int],
  rng: np.random.Generator,
) -> list[BagOfWords]:
  """A bag of each size (smaller where there are fewer patterns), from the images in `kept`."""
  from sklearn.cluster import MiniBatchKMeans

  side, color = look
  chosen = rng.permutation(kept)[:SAMPLE_IMAGES]
  described = _map_images(partial(_describe, side=side, color=color), images_NHWC[chosen])
  flat = [patches_RCE.reshape(-1, patches_RCE.shape[-1]) for patches_RCE in described]
  sample_PE = np.concatenate([rng.permutation(patches_PE)[:SAMPLE_PATCHES] for patches_PE in flat])
  distinct_PE = np.unique(sample_PE, axis=0)
  bags = []
  for size in sizes:
    words_VE = distinct_PE
    if len(distinct_PE) > size:
      kmeans: Any = MiniBatchKMeans(
        size, batch_size=2048, max_iter=20, n_init='auto', random_state=int(rng.integers(2**31))
      )
      words_VE = kmeans.fit(sample_PE).cluster_centers_.astype(np.float32)
    bags.append(BagOfWords(side, color, words_VE))
  return bags


def _describe(image_HWC: np.ndarray, side: int, color: bool) -> np.ndarray:
  """SIFT of an image's grid of patches: float32 [rows, columns, 128], 384 of three channels.

  A patch without any edge is described by zeros.
  """
  height, width, channels = image_HWC.shape
  scale = max(1.0, side / min(height, width))
  size = (round(width * scale), round(height * scale))
  if color or channels == 1:
    planes = np.moveaxis(image_HWC, 2, 0)
  else:
    planes = [cv2.cvtColor(np.ascontiguousarray(image_HWC), cv2.COLOR_RGB2GRAY)]
  columns, rows = (range(PATCH // 2, length - PATCH // 2 + 1, STRIDE) for length in size)
  no_rotation = 0.0
  key_points = [cv2.KeyPoint(x, y, KEY_POINT_SIZE, no_rotation) for y in rows for x in columns]
  sift, parts = cv2.SIFT.create(), []
  for plane_HW in planes:
    large_HW = cv2.resize(np.ascontiguousarray(plane_HW), size, interpolation=cv2.INTER_CUBIC)
    parts.append(sift.compute(large_HW, key_points)[1])
  return np.concatenate(parts, axis=1).reshape(len(rows), len(columns), -1)


def _count(images_NHWC: np.ndarray, bags: Sequence[BagOfWords]) -> list[sparse.csr_array]:
  """The pyramid of word counts, [N, 21 V], for each bag; all bags cut the images in the same way.

  A row sums to 1, and the columns of a level to its weight in GRIDS.
  """
  side, color = bags[0].side, bags[0].color

  def count(image_HWC: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    patches_RCE = _describe(image_HWC, side, color)
    return [_pyramid(_nearest(patches_RCE, bag.words_VE), len(bag.words_VE)) for bag in bags]

  counted = _map_images(count, images_NHWC)
  arrays = []
  for b, bag in enumerate(bags):
    bins = [np.zeros(0, np.int32), *(image[b][0] for image in counted)]
    shares = np.concatenate([np.zeros(0, np.float32), *(image[b][1] for image in counted)])
    ends = np.cumsum([len(each) for each in bins], dtype=np.int32)
    shape = (len(images_NHWC), CELLS * len(bag.words_VE))
    arrays.append(sparse.csr_array((shares, np.concatenate(bins), ends), shape))
  return arrays


def _nearest(patches_RCE: np.ndarray, words_VE: np.ndarray) -> np.ndarray:
  """The index of the nearest word of each patch, [rows, columns]."""
  rows, columns, width = patches_RCE.shape
  near_PV = patches_RCE.reshape(-1, width) @ words_VE.T - (words_VE**2).sum(axis=1) / 2
  return near_PV.argmax(axis=1).reshape(rows, columns)


def _pyramid(words_RC: np.ndarray, V: int) -> tuple[np.ndarray, np.ndarray]:
  """The bins that are not empty, level by level, cell by cell, and the share of each."""
  bins, shares, first = [], [], 0
  for grid, weight in GRIDS.items():
    row_R, column_C = (np.arange(length) * grid // length for length in words_RC.shape)
    cell_RC = row_R[:, None] * grid + column_C
    filled, counts = np.unique(first + cell_RC * V + words_RC, return_counts=True)
    bins.append(filled)
    shares.append(counts * (weight / words_RC.size))
    first += grid**2 * V
  return np.concatenate(bins).astype(np.int32), np.concatenate(shares).astype(np.float32)


def _chi_square(counts: sparse.csr_array) -> sparse.csr_array:
  """[N, D] -> [N, 3 D], whose inner products approximate the additive chi-square kernel."""
  from sklearn.kernel_approximation import AdditiveChi2Sampler

  return sparse.csr_array(AdditiveChi2Sampler(sample_steps=2).fit_transform(counts))


def _map_images(function: Callable[[np.ndarray], Any], images_NHWC: np.ndarray) -> list[Any]:
  """`function` of every image, in order; OpenCV lets threads run side by side."""
  chunks = [images_NHWC[i : i + CHUNK] for i in range(0, len(images_NHWC), CHUNK)]
  # One thread for each product: several would fight over the cores, and sum in other orders.
  with threadpool_limits(1), decode.thread_pool() as pool:
    done = list(pool.map(lambda chunk: [function(image_HWC) for image_HWC in chunk], chunks))
  return [result for chunk in done for result in chunk]

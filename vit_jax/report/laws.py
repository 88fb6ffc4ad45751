"""Scaling laws: the compute-optimal frontier, and E = a (C + d)^-b + c fitted to it.

The form is that of Scaling Vision Transformers (Zhai et al. 2022, arXiv:2106.04560, section 2.2):
a power law of the compute C that saturates on both sides. No compute takes away the error c; d
makes the error finite without compute.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.optimize import least_squares
from tqdm import trange

LEAST_POINTS = 6  # of a frontier: four constants, and two points that could contradict the fit
RESAMPLES = 1000
CONFIDENCE = 0.9
TAILS = (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2)
STEEPEST = 2.0  # b of a fit is between 0 and this
STARTS = [(b, c) for b in (0.15, 0.4, 1.0) for c in (0.1, 0.5, 0.9)]  # c as a share of the lowest


class Law(NamedTuple):
  """E = a (C + d)^-b + c. Both a and d depend on the unit of C, b and c do not."""

  a: float
  b: float
  c: float
  d: float

  def __call__(self, compute: np.ndarray | float) -> np.ndarray:
    return self.a * (np.asarray(compute) + self.d) ** -self.b + self.c

  def per(self, unit: float) -> Self:
    """The same law with C in multiples of `unit`."""
    return self._replace(a=self.a * unit**-self.b, d=self.d / unit)


# As printed in Figure 2 of the paper, C in TPUv3 core-days. The figure is a picture; its constants
# were taken from a note about the paper.
PUBLISHED = {
  'Scaling ViT, ImageNet fine-tuned': Law(0.26, 0.35, 0.09, 0.01),
  'Scaling ViT, ImageNet 10-shot': Law(0.63, 0.32, 0.12, 0.52),
}


@dataclass(frozen=True)
class Fit:
  law: Law
  laws: tuple[Law, ...]  # fitted to resampled points
  residual_N: np.ndarray  # of log E at the points, scaled up for the four fitted constants

  def interval(self, value: Callable[[Law], Any]) -> np.ndarray:
    """(2, ...): the bounds of `value` of the law at 90 % confidence."""
    return np.quantile([value(law) for law in self.laws], TAILS, axis=0)

  def predict(self, compute: float, seed: int = 0) -> tuple[float, float, float]:
    """(error, lower, upper) of a run that was not fitted; its own noise widens the interval."""
    noise = np.random.default_rng(seed).choice(self.residual_N, len(self.laws))
    drawn = np.array([float(law(compute)) for law in self.laws]) * np.exp(noise)
    low, high = np.quantile(drawn, TAILS)
    return float(self.law(compute)), float(low), float(high)


def frontier(compute_N: np.ndarray, error_N: np.ndarray) -> np.ndarray:
  """Indices, by increasing compute, of the points with less error than any of as little compute."""
  order_N = np.lexsort((error_N, compute_N))
  best_N = np.minimum.accumulate(error_N[order_N])
  return order_N[np.diff(best_N, prepend=np.inf) < 0]


def fit(
  compute_N: np.ndarray, error_N: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> Fit:
  """Fits the law to points of a frontier, and again to `resamples` of them drawn with replacement.

  Raises:
    ValueError: fewer than `LEAST_POINTS`, or a number that has no logarithm.
  """
  if len(compute_N) < LEAST_POINTS or min(*compute_N, *error_N) <= 0:
    raise ValueError(f'a law needs {LEAST_POINTS} points of positive compute and error')
  unit = float(np.exp(np.log(compute_N).mean()))  # near 1, where the solver does best
  x_N = compute_N / unit
  law = min(
    (_solve(x_N, error_N, start) for start in _starts(error_N)),
    key=lambda law: np.square(_residual(law, x_N, error_N)).sum(),
  )
  rng, laws = np.random.default_rng(seed), []
  for _ in trange(resamples, desc='resampling', leave=False, disable=None):
    drawn = _draw(rng, len(x_N))
    laws.append(_solve(x_N[drawn], error_N[drawn], law))
  residual_N = _residual(law, x_N, error_N) * np.sqrt(len(x_N) / (len(x_N) - len(law)))
  return Fit(law.per(1 / unit), tuple(each.per(1 / unit) for each in laws), residual_N)


def _draw(rng: np.random.Generator, count: int) -> np.ndarray:
  """As many points as there are, with replacement; again until more than four are distinct."""
  while True:
    drawn = rng.integers(count, size=count)
    if len(np.unique(drawn)) > len(Law._fields):
      return drawn


def _starts(error_N: np.ndarray) -> list[Law]:
  lowest, middle = float(error_N.min()), float(np.median(error_N))
  return [Law(middle - c * lowest, b, c * lowest, 1e-2) for b, c in STARTS]


def _residual(law: Law, x_N: np.ndarray, error_N: np.ndarray) -> np.ndarray:
  return np.log(error_N) - np.log(law(x_N))


def _solve(x_N: np.ndarray, error_N: np.ndarray, start: Law) -> Law:
  """Least squares of log E, with c between 0 and the lowest error."""

  def law(point) -> Law:
    return Law(np.exp(point[0]), point[1], point[2], np.exp(point[3]))

  def slope(point) -> np.ndarray:
    a, b, c, d = law(point)
    power_N = a * (x_N + d) ** -b
    columns = (power_N, -power_N * np.log(x_N + d), np.ones_like(x_N), -b * power_N * d / (x_N + d))
    return -np.stack(columns, 1) / (power_N + c)[:, None]

  def residual(point) -> np.ndarray:
    return _residual(law(point), x_N, error_N)

  low = np.array([np.log(1e-6), 1e-3, 0.0, np.log(1e-6)])
  high = np.array([np.log(1e3), STEEPEST, float(error_N.min()), np.log(1e2)])
  margin = 1e-6 * (high - low)
  point = np.array([np.log(start.a), start.b, start.c, np.log(start.d)])
  inside = np.clip(point, low + margin, high - margin)
  solve: Any = least_squares  # its types know no function for the slope
  return law(solve(residual, inside, slope, bounds=(low, high), method='dogbox', max_nfev=100).x)

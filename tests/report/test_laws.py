"""The frontier and the law, on points whose truth is known."""

import numpy as np
import pytest

from vit_jax.report import laws
from vit_jax.report.laws import Law

LAW = Law(a=0.6 * 1e9**0.3, b=0.3, c=0.05, d=1e9)  # from 0.53 to 0.10 over the computes below
COMPUTE_N = np.geomspace(1e9, 1e13, 14)


def test_frontier_of_made_up_runs():
  compute_N = np.array([8, 1, 2, 2, 4, 3, 16, 8, 32])
  error_N = np.array([0.25, 0.5, 0.4, 0.3, 0.35, 0.3, 0.2, 0.2, 0.19])
  # Of two at compute 2 or 8 the better one; not what only equals a cheaper one (at 3 and 16).
  assert laws.frontier(compute_N, error_N).tolist() == [1, 3, 7, 8]
  assert laws.frontier(np.array([]), np.array([])).tolist() == []


@pytest.mark.parametrize('seed', range(5))
def test_frontier_is_the_lower_envelope(seed):
  """Against its definition, point by point, with ties in both coordinates."""
  rng = np.random.default_rng(seed)
  compute_N, error_N = rng.integers(1, 20, 60), rng.integers(1, 20, 60) / 20
  pairs = {(c, e) for c, e in zip(compute_N, error_N, strict=True)}
  undominated = {
    (c, e)
    for c, e in pairs
    if not any(c2 <= c and e2 <= e and (c2, e2) != (c, e) for c2, e2 in pairs)
  }
  found = laws.frontier(compute_N, error_N)
  assert {(compute_N[i], error_N[i]) for i in found} == undominated
  assert len(found) == len(undominated) and (np.diff(compute_N[found]) > 0).all()


@pytest.mark.parametrize(
  'law', [LAW, Law(2e3, 0.5, 0.0, 1e6), Law(0.9, 0.02, 0.0, 3e8), Law(3e10, 1.1, 0.2, 4e10)]
)
@pytest.mark.parametrize('unit', [1.0, 1e18])
def test_a_law_without_noise_is_found_again(law, unit):
  scaled = law.per(unit)
  np.testing.assert_allclose(scaled(COMPUTE_N / unit), law(COMPUTE_N), rtol=1e-12)
  found = laws.fit(COMPUTE_N / unit, law(COMPUTE_N), resamples=0).law
  np.testing.assert_allclose(found(COMPUTE_N / unit), law(COMPUTE_N), rtol=1e-4)
  assert abs(found.b - law.b) < 0.01 and abs(found.c - law.c) < 0.01


def planted(seed: int, noise: float = 0.02) -> tuple[laws.Fit, np.ndarray]:
  """(a fit to noisy points of LAW, an equally noisy run of three times the largest compute)."""
  rng = np.random.default_rng(seed)
  compute_N = np.append(COMPUTE_N, 3 * COMPUTE_N[-1])
  error_N = LAW(compute_N) * np.exp(noise * rng.standard_normal(len(compute_N)))
  return laws.fit(compute_N[:-1], error_N[:-1], resamples=60, seed=seed), error_N[-1]


@pytest.mark.parametrize('count, least', [(20, 16), pytest.param(200, 165, marks=pytest.mark.slow)])
def test_intervals_hold_the_truth(count, least):
  """Of 90 % intervals 18 in 20 should; no fewer than 16 may, and they must not be wide."""
  held = {'held-out run': 0, 'b': 0, 'c': 0, 'law beyond': 0}
  widths = []
  for seed in range(count):
    fit, truth = planted(seed)
    predicted, low, high = fit.predict(3 * COMPUTE_N[-1])
    assert low < predicted < high
    held['held-out run'] += low <= truth <= high
    widths.append(np.log(high / low))
    for name, value in (
      ('b', lambda law: law.b),
      ('c', lambda law: law.c),
      ('law beyond', lambda law: law(3 * COMPUTE_N[-1])),
    ):
      low, high = fit.interval(value)
      held[name] += low <= value(LAW) <= high
  assert min(held.values()) >= least, held
  assert 0.06 < np.median(widths) < 0.2  # two hundredths of noise alone make 0.066


def test_the_same_seed_resamples_alike():
  first, again, other = (
    laws.fit(COMPUTE_N, LAW(COMPUTE_N) * (1 + 0.02 * np.sin(COMPUTE_N)), resamples=5, seed=seed)
    for seed in (0, 0, 1)
  )
  assert first.laws == again.laws and first.laws != other.laws


@pytest.mark.parametrize('count, error', [(5, 0.3), (8, 0.0)])
def test_what_cannot_be_fitted_is_refused(count, error):
  with pytest.raises(ValueError, match='6 points of positive compute and error'):
    laws.fit(COMPUTE_N[:count], np.full(count, error))


def test_published_laws_are_those_of_the_figure():
  fine_tuned, few_shot = laws.PUBLISHED.values()
  assert (fine_tuned.b, fine_tuned.c, few_shot.b, few_shot.c) == (0.35, 0.09, 0.32, 0.12)
  # The two agree about ViT-G/14, whose errors Table 1 and 4 give: 9.55 % and 15.14 %.
  core_days = (few_shot.a / (0.1514 - few_shot.c)) ** (1 / few_shot.b) - few_shot.d
  assert fine_tuned(core_days) == pytest.approx(0.0955, abs=0.01)

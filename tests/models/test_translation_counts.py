"""What translation models cost: parameters and products as published and by hand."""

import pytest

from vit_jax import models
from vit_jax.models import flops
from vit_jax.models.texts import Texts


def build(name, vocabulary, **options):
  return models.build(name, vocabulary, inputs=Texts(vocabulary), **options)


def body(D, F, L=6):
  """Without the vocabulary: an attention is 4 D^2 + 4 D, an MLP 2 D F + F + D, a LayerNorm 2 D."""
  attention, mlp, norm = 4 * D * D + 4 * D, 2 * D * F + F + D, 2 * D
  return L * (attention + mlp + 2 * norm) + L * (2 * attention + mlp + 3 * norm)


PUBLISHED = {'Transformer-base': (512, 65e6), 'Transformer-big': (1024, 213e6)}


@pytest.mark.parametrize(
  'name, exact', [('Transformer-base', 63_082_496), ('Transformer-big', 214_245_376)]
)
def test_parameters(name, exact):
  """Of arXiv:1706.03762 Table 3, 65 M and 213 M, with its shared vocabulary of about 37,000.

  The one table counts once. Big has 214.2 M, 0.6 % more than published; base has 63.1 M, 2.9 %
  fewer. No vocabulary gives both figures: 65 M takes 40,700 tokens and 213 M takes 35,800, and a
  last digit of half a million is 980 tokens of base and 490 of big.
  """
  D, published = PUBLISHED[name]
  ours = flops.count_parameters(build(name, 37_000), (2, 2))
  assert ours == 37_000 * D + body(D, 4 * D) == exact
  assert abs(ours - published) / published < (0.01 if name == 'Transformer-big' else 0.03)


def test_no_vocabulary_gives_both_published_figures():
  (base_low, base_high), (big_low, big_high) = (
    [(published + sign * 0.5e6 - body(D, 4 * D)) / D for sign in (-1, 1)]
    for D, published in PUBLISHED.values()
  )
  assert (base_low + base_high) / 2 == pytest.approx(40_700, abs=50)
  assert (big_low + big_high) / 2 == pytest.approx(35_800, abs=50)
  assert big_high < 37_000 < base_low


def test_macs():
  """Of one pair of S source and T target tokens, by hand; causal products count in full."""
  model = build('Transformer-base', 37_000)
  D, F, L, S, T = 512, 2048, 6, 32, 32
  encoder = S * (4 * D * D + 2 * D * F) + 2 * S * S * D
  own = T * 4 * D * D + 2 * T * T * D
  cross = T * 2 * D * D + S * 2 * D * D + 2 * S * T * D
  decoder = own + cross + T * 2 * D * F
  assert flops.forward_macs(model, (S, T)) == L * (encoder + decoder) + T * D * 37_000

"""Parameters against published figures."""

import pytest

from vit_jax import models
from vit_jax.models import flops
from vit_jax.models.sizes import SIZES

# At 1000 classes and 224 pixels, class token, no pre_logits: google-research/vision_transformer,
# vit_jax/models_test.py.
COUNTS = {
  'Ti/16': 5_717_416,
  'S/16': 22_050_664,
  'S/32': 22_878_952,
  'B/8': 86_576_872,
  'B/16': 86_567_656,
  'B/32': 88_224_232,
  'L/16': 304_326_632,
  'L/32': 306_535_400,
  'H/14': 632_045_800,
}
# (millions, half a unit of their last digit, what is counted): published, or marked * computed in
# that source's terms from the published shape. 'mean' and 'map' are bodies without a head;
# 'layerscale' is DeiT III at 1000 classes, whose positions lack a slot for the class token.
MILLIONS = {
  'mu/16': None,  # big_vision gives no count
  's/16': (5.0, 0.05, 'mean'),  # arXiv:2106.04560 Table 2
  'M/16': (38.8, 0.051, 'layerscale'),  # DeiT III, README_revenge.md
  'S36/16': (64.67, 0.005, 'layerscale'),  # * facebookresearch/deit models_v2.py
  'B36/16': (256.73, 0.005, 'layerscale'),  # * likewise
  'H52/14': (1025.73, 0.005, 'layerscale'),  # * likewise
  'g4/14': (955.03, 0.005, 'layerscale'),  # * likewise
  'G4/14': (1599.16, 0.005, 'layerscale'),  # * likewise
  'So150m/14': (130.18, 0.005, 'mean'),  # * arXiv:2305.13035 section 4.1
  'So400m/14': (428, 0.5, 'map'),  # arXiv:2305.13035 Table 1
  'g/14': (1011, 0.5, 'mean'),  # arXiv:2106.04560 Table 2
  'G/14': (1843, 0.5, 'mean'),  # arXiv:2106.04560 Table 2
  'g-opt/14': None,  # big_vision gives no count
  'G-opt/14': None,  # likewise
  'e/14': (4000, 500, 'map'),  # arXiv:2209.06794 abstract: "4-billion parameter"
}
IMAGE = (224, 224, 3)


def closed_form(name: str, pool: str, classes: int) -> int:
  base, patch = name.split('/')
  D, L, F, _ = SIZES[base]
  tokens = (224 // int(patch)) ** 2 + (pool == 'cls')
  layer = 4 * D * D + 4 * D + 2 * D * F + F + D + 4 * D
  total = 3 * int(patch) ** 2 * D + D + tokens * D + L * layer + 2 * D
  if pool == 'cls':
    total += D
  if pool == 'map':
    total += D + 4 * D * D + 4 * D + 2 * D + 2 * D * F + F + D
  return total + (classes * (D + 1) if classes else 0)


def test_every_size_is_in_a_table():
  plain = {base for base, entry in models.MODELS.items() if entry.family == 'ViT'}
  assert {name.split('/')[0] for name in COUNTS | MILLIONS} == set(SIZES) == plain


@pytest.mark.parametrize('name', COUNTS)
def test_published_counts(name):
  assert flops.count_parameters(models.build(name, 1000), IMAGE) == COUNTS[name]


@pytest.mark.parametrize('name', MILLIONS)
@pytest.mark.parametrize('pool, classes', [('cls', 1000), ('mean', 0), ('map', 10)])
def test_closed_form(name, pool, classes):
  model = models.build(name, classes, pool=pool)
  assert flops.count_parameters(model, IMAGE) == closed_form(name, pool, classes)


@pytest.mark.parametrize('name', [name for name, row in MILLIONS.items() if row])
def test_published_millions(name):
  millions, half_unit, kind = MILLIONS[name]
  if kind == 'layerscale':
    D, L = SIZES[name.split('/')[0]][:2]
    count = closed_form(name, 'cls', 1000) - D + 2 * L * D
  else:
    count = closed_form(name, kind, 0)
  assert count / 1e6 == pytest.approx(millions, abs=half_unit)

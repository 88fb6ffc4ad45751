"""The same weights give timm's numbers: full size, float32, through `vit_jax convert` on files."""

import jax
import numpy as np
import pytest

from vit_jax import commands
from vit_jax.layouts import files
from vit_jax.weights import open as open_weights

pytestmark = pytest.mark.slow
TOLERANCE = 1e-4

# timm's name, ours, pixels, and what of ours is what theirs returns.
ROWS = [
  ('vit_tiny_patch16_224', 'Ti/16', 224, 'logits_BK'),
  ('vit_small_patch16_224', 'S/16', 224, 'logits_BK'),
  ('vit_base_patch16_224', 'B/16', 224, 'logits_BK'),
  ('vit_base_patch32_384', 'B/32', 384, 'logits_BK'),
  ('vit_medium_patch16_gap_240', 'M/16', 240, 'logits_BK'),
  ('deit_tiny_patch16_224', 'DeiT-Ti/16', 224, 'logits_BK'),
  ('deit_small_patch16_224', 'DeiT-S/16', 224, 'logits_BK'),
  ('deit_tiny_distilled_patch16_224', 'DeiT-Ti/16-distilled', 224, 'logits_BK'),
  ('deit_small_distilled_patch16_224', 'DeiT-S/16-distilled', 224, 'logits_BK'),
  ('deit3_small_patch16_224', 'DeiT3-S/16', 224, 'logits_BK'),
  ('cait_xxs24_224', 'CaiT-XXS24', 224, 'logits_BK'),
  ('cait_xs24_384', 'CaiT-XS24', 384, 'logits_BK'),
  ('vit_small_patch14_dinov2', 'DINOv2-S/14', 518, 'features_BD'),
  ('vit_small_patch14_reg4_dinov2', 'DINOv2-S/14-reg4', 518, 'features_BD'),
  ('vit_tiny_r_s16_p8_224', 'R+Ti/16', 224, 'logits_BK'),
  ('vit_small_r26_s32_224', 'R26+S/32', 224, 'logits_BK'),
  ('vit_base_r50_s16_384', 'R50+B/16', 384, 'logits_BK'),
  ('resnet18', 'ResNet-18', 224, 'logits_BK'),
  ('resnet50', 'ResNet-50', 224, 'logits_BK'),
  ('resnet101', 'ResNet-101', 224, 'logits_BK'),
  ('resnetv2_50x1_bit', 'BiT-R50x1', 448, 'logits_BK'),
]


@pytest.mark.parametrize('theirs, ours, size, field', ROWS, ids=[row[0] for row in ROWS])
def test_timm_parity(theirs, ours, size, field, tmp_path):
  from tests.weights import timm_models

  rival = timm_models.timm_model(theirs)
  images_BHWC = timm_models.images(size)
  expected = timm_models.output_of(rival, images_BHWC)
  files.write(tmp_path / 'timm.safetensors', timm_models.state(rival))
  del rival
  # To what suits an .npz and back: the weights pass through both of our directions.
  for source, target in (('timm.safetensors', 'ours.npz'), ('ours.npz', 'again.safetensors')):
    assert (
      commands.main(
        ['convert', f'--model={ours}', f'--from={tmp_path / source}', f'--to={tmp_path / target}']
      )
      == 0
    )
  opened = open_weights(tmp_path / 'again.safetensors', data_dir=tmp_path)
  model, variables = opened.model, opened.variables
  assert opened.name == ours and model.inputs.size == (size, size)
  assert '0 resized, 0 fresh' in opened.line
  with jax.default_matmul_precision('float32'):
    output = jax.jit(lambda variables, images: model.apply(variables, images, train=False))(
      variables, images_BHWC
    )
  got = np.asarray(getattr(output, field))
  difference = np.abs(got - expected).max()
  print(
    f'{theirs}: max abs difference {difference:.1e}, '
    f'between images {np.abs(expected[0] - expected[1]).max():.2f}'
  )
  assert got.shape == expected.shape
  assert np.abs(expected[0] - expected[1]).max() > 1000 * difference
  assert difference <= TOLERANCE

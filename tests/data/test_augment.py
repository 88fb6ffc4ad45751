"""What each augmentation does to pixels and labels, and that sharding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import stats

from vit_jax.config import Augment
from vit_jax.data.augment import ERASE_AREA, GRAY, LUMA, augment, normalize
from vit_jax.errors import UserError

B, H, W, K = 64, 12, 12, 5
RNG = np.random.default_rng(0)
IMAGES_BHWC = RNG.integers(0, 256, (B, H, W, 3), np.uint8)
MILD_BHWC = RNG.integers(100, 150, (B, H, W, 3), np.uint8)  # nothing reaches 0 or 255
LABELS_BK = np.eye(K, dtype=np.float32)[RNG.integers(0, K, B)]


def run(images_BHWC, seed=0, labels_BK=LABELS_BK, mask_B=None, **options):
  mask_B = np.ones(len(images_BHWC), bool) if mask_B is None else mask_B
  images_BHWC, labels_BK = jax.jit(augment, static_argnums=4)(
    jax.random.key(seed), images_BHWC, labels_BK, mask_B, Augment(**options)
  )
  return np.asarray(images_BHWC), np.asarray(labels_BK)


def test_normalize():
  out = normalize(jnp.asarray(IMAGES_BHWC), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
  expected = (IMAGES_BHWC / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
  np.testing.assert_allclose(out, expected, atol=1e-5)
  assert out.dtype == jnp.float32
  half = normalize(jnp.asarray(IMAGES_BHWC), (0.5,) * 3, (0.5,) * 3, jnp.bfloat16)
  assert half.dtype == jnp.bfloat16
  with pytest.raises(UserError, match='one value per channel, 1 each'):
    normalize(jnp.zeros((2, 4, 4, 1)), (0.5,) * 3, (0.5,) * 3)


def test_nothing_on_is_the_identity():
  images_BHWC, labels_BK = run(IMAGES_BHWC)
  assert images_BHWC.dtype == np.uint8
  np.testing.assert_array_equal(images_BHWC, IMAGES_BHWC)
  np.testing.assert_array_equal(labels_BK, LABELS_BK)


def test_dihedral_gives_exactly_the_eight_symmetries_equally_often():
  image_HWC = IMAGES_BHWC[0]
  turned = [np.rot90(image_HWC, k) for k in range(4)]
  group = {x.tobytes() for x in turned + [x[:, ::-1] for x in turned]}
  assert len(group) == 8
  many_BHWC = np.broadcast_to(image_HWC, (2048, H, W, 3))
  out_BHWC, _ = run(many_BHWC, labels_BK=np.zeros((2048, K), np.float32), dihedral=True)
  assert out_BHWC.dtype == np.uint8
  counts = {}
  for x in out_BHWC:
    counts[x.tobytes()] = counts.get(x.tobytes(), 0) + 1
  assert counts.keys() == group
  assert all(abs(count - 256) < 75 for count in counts.values())  # 5 standard deviations
  with pytest.raises(UserError, match='12 x 10'):
    run(IMAGES_BHWC[:, :, :10], dihedral=True)


def test_brightness_scales_each_image_by_its_own_factor():
  out_BHWC, labels_BK = run(MILD_BHWC, brightness=0.3)
  factors = out_BHWC / MILD_BHWC
  np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1, :1, :1], factors.shape), 1e-4)
  factor_B = factors[:, 0, 0, 0]
  assert len(np.unique(factor_B)) == B
  assert 0.7 <= factor_B.min() < 0.8 and 1.2 < factor_B.max() <= 1.3
  np.testing.assert_array_equal(labels_BK, LABELS_BK)


def test_contrast_keeps_the_mean_luminance():
  out_BHWC, _ = run(MILD_BHWC, contrast=0.5)
  np.testing.assert_allclose((out_BHWC @ LUMA).mean((1, 2)), (MILD_BHWC @ LUMA).mean((1, 2)), 1e-4)
  ratio_B = out_BHWC.std((1, 2, 3)) / MILD_BHWC.std((1, 2, 3))
  assert 0.5 <= ratio_B.min() < 0.65 and 1.35 < ratio_B.max() <= 1.5


def test_saturation_keeps_each_pixel_s_luminance():
  out_BHWC, _ = run(MILD_BHWC, saturation=1.0)
  np.testing.assert_allclose(out_BHWC @ LUMA, MILD_BHWC @ LUMA, 1e-4)
  ratio_B = out_BHWC.std(-1).mean((1, 2)) / MILD_BHWC.std(-1).mean((1, 2))
  assert ratio_B.min() < 0.2 and ratio_B.max() > 1.8
  with pytest.raises(UserError, match='needs color'):
    run(MILD_BHWC[..., :1], saturation=0.5)


def test_colors_stay_in_range():
  out_BHWC, _ = run(IMAGES_BHWC, brightness=1.0, contrast=1.0, saturation=1.0)
  assert out_BHWC.min() >= 0 and out_BHWC.max() <= 255
  gray_BHW1, _ = run(IMAGES_BHWC[..., :1], brightness=0.5, contrast=0.5)
  assert gray_BHW1.shape == (B, H, W, 1)


def test_erasing_puts_one_gray_rectangle_into_the_share_asked_for():
  images_BHWC = np.zeros((512, 32, 32, 3), np.uint8)
  labels_BK = np.zeros((512, K), np.float32)
  out_BHWC, _ = run(images_BHWC, labels_BK=labels_BK, erase=0.5)
  assert set(np.unique(out_BHWC)) == {0, GRAY}
  erased_BHW = out_BHWC[..., 0] == GRAY
  touched_B = erased_BHW.any((1, 2))
  assert abs(touched_B.mean() - 0.5) < 0.11
  shares, places = [], []
  for mask_HW in erased_BHW[touched_B]:
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert mask_HW.sum() == height * width  # a full rectangle
    shares.append(height * width / 1024)
    places.append((rows[0], columns[0]))
  assert ERASE_AREA[0] * 0.8 < min(shares) < 0.06
  assert 0.28 < max(shares) < ERASE_AREA[1] * 1.05
  assert len(set(places)) > 100
  everywhere, _ = run(images_BHWC, labels_BK=labels_BK, erase=1.0)
  assert (everywhere == GRAY).any((1, 2, 3)).all()


def partner(x_B):
  return np.roll(x_B, 1, 0)


def test_mixup_mixes_images_and_labels_alike():
  identity_BB = np.eye(B, dtype=np.float32)  # so the weights can be read off the labels
  out_BHWC, mixed_BB = run(IMAGES_BHWC, labels_BK=identity_BB, mixup=1.0)
  weight_B = np.diag(mixed_BB)
  np.testing.assert_allclose(mixed_BB.sum(-1), 1, atol=1e-6)
  expected_BB = weight_B[:, None] * identity_BB + (1 - weight_B[:, None]) * partner(identity_BB)
  np.testing.assert_allclose(mixed_BB, expected_BB, atol=1e-6)
  wide = weight_B[:, None, None, None]
  expected = wide * IMAGES_BHWC + (1 - wide) * partner(IMAGES_BHWC.astype(float))
  np.testing.assert_allclose(out_BHWC, expected, atol=1e-2)
  assert weight_B.min() < 0.1 and weight_B.max() > 0.9 and len(np.unique(weight_B)) == B


def test_mixup_weights_follow_their_beta():
  labels_BB = np.eye(1024, dtype=np.float32)
  images_BHWC = np.zeros((1024, 1, 1, 1), np.uint8)
  for alpha in (0.2, 1.0, 8.0):
    _, mixed_BB = run(images_BHWC, labels_BK=labels_BB, mixup=alpha)
    assert stats.kstest(np.diag(mixed_BB), stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert stats.kstest(np.diag(mixed_BB), stats.beta(alpha * 1.5, alpha).cdf).pvalue < 0.001


def test_cutmix_pastes_a_rectangle_and_weighs_the_labels_by_area():
  out_BHWC, mixed_BB = run(IMAGES_BHWC, labels_BK=np.eye(B, dtype=np.float32), cutmix=1.0)
  own = (out_BHWC == IMAGES_BHWC).all(-1)
  pasted = (out_BHWC == partner(IMAGES_BHWC)).all(-1)
  assert (own | pasted).all()
  weight_B = np.diag(mixed_BB)
  np.testing.assert_allclose(weight_B, 1 - pasted.mean((1, 2)), atol=1e-6)
  np.testing.assert_allclose(mixed_BB.sum(-1), 1, atol=1e-6)
  assert weight_B.min() < 0.3 and weight_B.max() > 0.9
  for mask_HW in pasted[pasted.any((1, 2))]:
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    assert mask_HW.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_with_both_each_batch_tosses_a_coin():
  kinds = []
  for seed in range(40):
    out_BHWC, _ = run(IMAGES_BHWC, seed=seed, mixup=1.0, cutmix=1.0)
    copied = (out_BHWC == IMAGES_BHWC) | (out_BHWC == partner(IMAGES_BHWC))
    assert copied.all() or copied.mean() < 0.2  # all of it CutMix, or all of it mixup
    kinds.append(bool(copied.all()))
  assert 10 < sum(kinds) < 30


@pytest.mark.parametrize('kind', ['mixup', 'cutmix'])
def test_a_masked_row_is_mixed_into_no_other(kind):
  mask_B = np.arange(B) != 10
  whole, around = (run(IMAGES_BHWC, mask_B=mask, **{kind: 1.0}) for mask in (None, mask_B))
  for all_mixed, mixed, alone in zip(whole, around, (IMAGES_BHWC, LABELS_BK), strict=True):
    np.testing.assert_array_equal(mixed[11], alone[11])
    assert (all_mixed[11] != alone[11]).any()
    rest = np.delete(np.arange(B), 11)
    np.testing.assert_array_equal(mixed[rest], all_mixed[rest])


ALL = Augment(
  dihedral=True, brightness=0.4, contrast=0.4, saturation=0.4, erase=0.5, mixup=0.2, cutmix=1.0
)


def test_the_same_numbers_under_any_sharding():
  step = jax.jit(augment, static_argnums=4)
  mask_B = np.ones(B, bool)
  devices = np.array(jax.devices()[:8])
  assert len(devices) == 8
  for shape, spec in [((8, 1), 'a'), ((2, 4), 'b')]:
    mesh = Mesh(devices.reshape(shape), ('a', 'b'))
    sharding = NamedSharding(mesh, PartitionSpec(spec))
    for seed in range(6):  # mixup and CutMix are both among them
      key = jax.random.key(seed)
      alone = step(key, jnp.asarray(IMAGES_BHWC), jnp.asarray(LABELS_BK), mask_B, ALL)
      assert (np.asarray(alone[0]) != IMAGES_BHWC).any((1, 2, 3)).all()
      split = step(
        key,
        jax.device_put(IMAGES_BHWC, sharding),
        jax.device_put(LABELS_BK, sharding),
        jax.device_put(mask_B, sharding),
        ALL,
      )
      for left, right in zip(alone, split, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-4)


def test_the_key_decides():
  first, again, other = (run(IMAGES_BHWC, seed=s, dihedral=True, mixup=1.0)[0] for s in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert (first != other).any((1, 2, 3)).mean() > 0.9

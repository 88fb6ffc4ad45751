"""What the device does to pixels and labels, and that no split of the batch changes it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import stats

from vit_jax.config import Augment, Loss
from vit_jax.data.augment import ERASE_AREA, GRAY, draw, normalize
from vit_jax.errors import UserError
from vit_jax.train.task import Classification

B, H, W, K = 64, 12, 12, 5
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
RNG = np.random.default_rng(0)
IMAGES_BHWC = RNG.integers(0, 256, (B, H, W, 3), np.uint8)
DRAWS = 20_000


@functools.cache
def _inputs(task, split):
  """(batch, key) -> (images, labels), made in micro-batches as a step makes them."""

  def step(batch, key):
    rows = jax.tree.map(
      lambda leaf: leaf.reshape(-1, split, *leaf.shape[1:]).swapaxes(0, 1), task.drawn(batch, key)
    )
    images, targets = jax.lax.map(task.inputs, rows)
    return [
      leaf.swapaxes(0, 1).reshape(-1, *leaf.shape[2:]) for leaf in (images, targets.labels_BK)
    ]

  return jax.jit(step)


def run(images_BHWC=IMAGES_BHWC, seed=0, labels_BK=None, mask_B=None, split=1, **options):
  """(pixels in [0, 255], labels) of the whole batch, made in `split` parts; labels tell rows."""
  count, channels = len(images_BHWC), images_BHWC.shape[-1]
  labels_BK = np.eye(count, dtype=np.float32) if labels_BK is None else labels_BK
  mask_B = np.ones(count, bool) if mask_B is None else mask_B
  keys = labels_BK.shape[1], Loss(), Augment(**options), MEAN[:channels], STD[:channels]
  task = Classification(*keys)
  batch = {'image': images_BHWC, 'soft_label': labels_BK, 'mask': mask_B}

  images, labels = _inputs(task, split)(batch, jax.random.key(seed))
  std, mean = np.array(STD[:channels]), np.array(MEAN[:channels])
  return 255 * (np.asarray(images) * std + mean), np.asarray(labels)


@functools.partial(jax.jit, static_argnums=(1, 2))
def many(keys_S, shape, cfg):
  """The draws of many steps."""
  return jax.vmap(lambda key: draw(key, shape, cfg))(keys_S)


def partner(x_B):
  return np.roll(x_B, B // 2, 0)


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
  images_BHWC, labels_BB = run()
  np.testing.assert_allclose(images_BHWC, IMAGES_BHWC, atol=1e-3)
  np.testing.assert_array_equal(labels_BB, np.eye(B))
  assert not draw(jax.random.key(0), IMAGES_BHWC.shape, Augment(brightness=0.3, auto='none'))


def test_dihedral_gives_exactly_the_eight_symmetries_equally_often():
  image_HWC = IMAGES_BHWC[0]
  turned = [np.rot90(image_HWC, k) for k in range(4)]
  group = {x.tobytes() for x in turned + [x[:, ::-1] for x in turned]}
  assert len(group) == 8
  many_BHWC = np.broadcast_to(image_HWC, (2048, H, W, 3))
  out_BHWC, _ = run(many_BHWC, labels_BK=np.zeros((2048, K), np.float32), dihedral=True)
  counts = {}
  for x in out_BHWC.round().astype(np.uint8):
    counts[x.tobytes()] = counts.get(x.tobytes(), 0) + 1
  assert counts.keys() == group
  assert all(abs(count - 256) < 75 for count in counts.values())  # 5 standard deviations
  with pytest.raises(UserError, match='12 x 10'):
    run(IMAGES_BHWC[:, :, :10], dihedral=True)


@pytest.mark.parametrize('fill', ['gray', 'noise'])
def test_erasing_fills_one_rectangle_in_the_share_asked_for(fill):
  images_BHWC = np.zeros((512, 32, 32, 3), np.uint8)
  labels_BK = np.zeros((512, K), np.float32)
  out_BHWC, _ = run(images_BHWC, labels_BK=labels_BK, erase=0.5, erase_fill=fill)
  erased_BHW = (np.abs(out_BHWC) > 1e-4).any(-1)
  touched_B = erased_BHW.any((1, 2))
  assert abs(touched_B.mean() - 0.5) < 0.11
  for mask_HW in erased_BHW[touched_B]:
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    assert mask_HW.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
  values = out_BHWC[erased_BHW]
  if fill == 'gray':
    np.testing.assert_allclose(values, GRAY, atol=1e-3)
    return
  normal = (values / 255 - MEAN) / STD  # what the model sees
  for c in range(3):
    assert stats.kstest(normal[:DRAWS, c], 'norm').pvalue > 0.01
  pixels_KD = normal[:4000].reshape(-1, 6)  # neighbors and channels are independent
  np.testing.assert_allclose(np.corrcoef(pixels_KD.T), np.eye(6), atol=0.12)
  first, second = (out_BHWC[i][erased_BHW[i]][:9, 0] for i in np.flatnonzero(touched_B)[:2])
  assert (first != second).all()  # rows have noise of their own


def timm_rectangle(rng, H, W):
  """timm's definition, an attempt after the other; None if none fits."""
  for _ in range(10):
    area = rng.uniform(*ERASE_AREA) * H * W
    aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
    h, w = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
    if w < W and h < H:
      return rng.integers(0, H - h + 1), rng.integers(0, W - w + 1), h, w
  return None


def test_erased_rectangles_are_distributed_as_timm_s():
  height, width = 48, 32
  cfg = Augment(erase=1.0)
  ours = np.array(draw(jax.random.key(0), (DRAWS, height, width, 3), cfg)['erase_B4'])
  rng = np.random.default_rng(0)
  theirs = [timm_rectangle(rng, height, width) for _ in range(DRAWS)]
  theirs = np.array([each for each in theirs if each])
  assert len(theirs) == DRAWS and (ours[:, 2:] > 0).all()
  numbers = {
    'area': lambda r: r[:, 2] * r[:, 3],
    'aspect': lambda r: np.log(r[:, 2] / r[:, 3]),
    'top': lambda r: r[:, 0],
    'left': lambda r: r[:, 1],
  }
  for name, number in numbers.items():
    assert stats.ks_2samp(number(ours), number(theirs)).pvalue > 0.01, name
  assert stats.ks_2samp(ours[:, 2], ours[:, 3]).pvalue < 0.001


@pytest.mark.parametrize('mix', ['batch', 'example'])
def test_mixup_mixes_images_and_labels_alike(mix):
  out_BHWC, mixed_BB = run(mixup=1.0, mix=mix)
  weight_B, identity_BB = np.diag(mixed_BB), np.eye(B)
  np.testing.assert_allclose(mixed_BB.sum(-1), 1, atol=1e-6)
  expected_BB = weight_B[:, None] * identity_BB + (1 - weight_B[:, None]) * partner(identity_BB)
  np.testing.assert_allclose(mixed_BB, expected_BB, atol=1e-6)
  wide = weight_B[:, None, None, None]
  expected = wide * IMAGES_BHWC + (1 - wide) * partner(IMAGES_BHWC.astype(float))
  np.testing.assert_allclose(out_BHWC, expected, atol=1e-2)
  if mix == 'batch':
    assert len(np.unique(weight_B.round(5))) == 1
    assert len({run(seed=seed, mixup=1.0)[1][0, 0] for seed in range(4)}) == 4
  else:
    assert weight_B.min() < 0.1 and weight_B.max() > 0.9 and len(np.unique(weight_B)) == B


@pytest.mark.parametrize('alpha', [0.2, 0.8, 1.0, 8.0])
def test_weights_follow_their_beta(alpha):
  shape, key = (DRAWS, 32, 32, 3), jax.random.key(1)
  keep_B = np.asarray(draw(key, shape, Augment(mixup=alpha, mix='example'))['keep_B'])
  steps_S = many(jax.random.split(key, DRAWS), (2, 8, 8, 3), Augment(mixup=alpha))['keep_B'][:, 0]
  rng = np.random.default_rng(0)  # in float32, where 1 is many times drawn for a small alpha
  for other, same in ((alpha, True), (alpha * 1.5, False)):
    expected = rng.beta(other, alpha, DRAWS).astype(np.float32)
    for found in (keep_B, steps_S):
      assert (stats.ks_2samp(found, expected).pvalue > 0.01) == same


def test_pasted_rectangles_are_distributed_as_timm_s():
  height, width = 40, 24
  cfg = Augment(cutmix=1.0, mix='example')
  draws = draw(jax.random.key(2), (DRAWS, height, width, 3), cfg)
  assert (np.asarray(draws['keep_B']) == 1).all()
  top, left, h, w = np.asarray(draws['paste_B4']).T
  ours = np.clip([top, top + h, left, left + w], 0, [[height], [height], [width], [width]])
  rng = np.random.default_rng(0)  # timm/data/mixup.py, rand_bbox
  side = np.sqrt(1 - rng.beta(1, 1, DRAWS))
  h, w = (height * side).astype(int), (width * side).astype(int)
  y, x = rng.integers(0, height, DRAWS), rng.integers(0, width, DRAWS)
  theirs = [
    np.clip(y - h // 2, 0, height),
    np.clip(y + (h + 1) // 2, 0, height),
    np.clip(x - w // 2, 0, width),
    np.clip(x + (w + 1) // 2, 0, width),
  ]
  for one, other in zip(ours, theirs, strict=True):
    assert stats.ks_2samp(one, other).pvalue > 0.01

  def kept(box):
    return 1 - (box[1] - box[0]) * (box[3] - box[2]) / (height * width)

  assert stats.ks_2samp(kept(ours), kept(theirs)).pvalue > 0.01


@pytest.mark.parametrize('mix', ['batch', 'example'])
def test_cutmix_pastes_a_rectangle_and_weighs_the_labels_by_area(mix):
  out_BHWC, mixed_BB = run(cutmix=1.0, mix=mix, seed=3)
  own = (np.abs(out_BHWC - IMAGES_BHWC) < 0.01).all(-1)
  pasted = (np.abs(out_BHWC - partner(IMAGES_BHWC)) < 0.01).all(-1)
  assert (own | pasted).all() and pasted.any()
  weight_B = np.diag(mixed_BB)
  np.testing.assert_allclose(weight_B, 1 - pasted.mean((1, 2)), atol=1e-6)
  np.testing.assert_allclose(mixed_BB.sum(-1), 1, atol=1e-6)
  if mix == 'batch':
    assert (pasted == pasted[0]).all()
  else:
    assert weight_B.min() < 0.3 and weight_B.max() > 0.9
  for mask_HW in pasted[pasted.any((1, 2))]:
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    assert mask_HW.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_with_both_a_fair_coin_says_which():
  both, shape = Augment(mixup=1.0, cutmix=1.0), (8, 32, 32, 3)
  draws_S = many(jax.random.split(jax.random.key(0), 400), shape, both)
  pasted_SB, mixed_SB = draws_S['paste_B4'][..., 2] > 0, draws_S['keep_B'] < 1
  assert not (pasted_SB & mixed_SB).any() and (mixed_SB == mixed_SB[:, :1]).all()
  assert 150 < mixed_SB[:, 0].sum() < 250
  each = draw(jax.random.key(0), (400, 32, 32, 3), Augment(mixup=1.0, cutmix=1.0, mix='example'))
  assert 150 < int((each['keep_B'] < 1).sum()) < 250


@pytest.mark.parametrize('kind', ['mixup', 'cutmix'])
def test_a_masked_row_is_mixed_into_no_other(kind):
  mask_B = np.arange(B) != 10
  whole, around = (run(mask_B=mask, seed=3, **{kind: 1.0}) for mask in (None, mask_B))
  row = 10 + B // 2
  for all_mixed, mixed, alone in zip(whole, around, (IMAGES_BHWC, np.eye(B)), strict=True):
    np.testing.assert_allclose(mixed[row], alone[row], atol=1e-3)
    assert (np.abs(all_mixed[row] - alone[row]) > 0.01).any()
    rest = np.delete(np.arange(B), row)
    np.testing.assert_array_equal(mixed[rest], all_mixed[rest])


@pytest.mark.parametrize('repeats, count', [(1, 2), (3, 6), (3, 7), (3, 64), (4, 9)])
def test_no_row_is_mixed_with_its_own_repeat(repeats, count):
  images_BHWC = np.zeros((count, 4, 4, 3), np.uint8)
  _, mixed_BB = run(images_BHWC, mixup=1.0, mix='example')
  for first in range(repeats):  # wherever a batch begins in the stream
    image_B = (np.arange(count) + first) // repeats
    own, other = np.nonzero((mixed_BB > 0) & ~np.eye(count, dtype=bool))
    assert (image_B[own] != image_B[other]).all() and len(own) == count


ALL = dict(dihedral=True, erase=0.5, mixup=0.2, cutmix=1.0)


@pytest.mark.parametrize('mix', ['batch', 'example'])
def test_no_split_into_parts_changes_the_numbers(mix):
  for seed in range(4):  # mixup and CutMix are both among them
    whole = run(seed=seed, mix=mix, **ALL)
    assert (np.abs(whole[0] - IMAGES_BHWC) > 1).any((1, 2, 3)).mean() > 0.9
    for split in (4, 64):  # of which 64 parts have one row each, and mix all the same
      for left, right in zip(whole, run(seed=seed, mix=mix, split=split, **ALL), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-3)


def test_the_same_numbers_under_any_sharding():
  task = Classification(B, Loss(), Augment(**ALL), MEAN, STD)
  step = jax.jit(lambda batch, key: task.inputs(task.drawn(batch, key)))
  batch = {'image': IMAGES_BHWC, 'label': np.arange(B), 'mask': np.ones(B, bool)}
  devices = np.array(jax.devices()[:8])
  assert len(devices) == 8
  for shape, spec in [((8, 1), 'a'), ((2, 4), 'b')]:
    sharding = NamedSharding(Mesh(devices.reshape(shape), ('a', 'b')), PartitionSpec(spec))
    for seed in range(4):
      alone = step(batch, jax.random.key(seed))
      split = step(jax.device_put(batch, sharding), jax.random.key(seed))
      pairs = zip(jax.tree.leaves(alone), jax.tree.leaves(split), strict=True)
      for left, right in pairs:
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-4)


def test_pairing_moves_no_more_than_the_other_half():
  """Partners come by a permutation between devices; no device gathers the batch."""
  task = Classification(B, Loss(), Augment(**ALL), MEAN, STD)
  devices = np.array(jax.devices()[:8])
  sharding = NamedSharding(Mesh(devices, ('a',)), PartitionSpec('a'))
  batch = {'image': IMAGES_BHWC, 'label': np.arange(B), 'mask': np.ones(B, bool)}
  step = jax.jit(lambda batch, key: task.inputs(task.drawn(batch, key)))
  text = step.lower(jax.device_put(batch, sharding), jax.random.key(0)).compile().as_text()
  image = f'u8[{B},{H},{W},3]'
  assert 'collective-permute' in text
  assert not [line for line in text.splitlines() if 'all-gather' in line and image in line]


def test_the_key_decides():
  first, again, other = (run(seed=s, dihedral=True, mixup=1.0)[0] for s in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert (np.abs(first - other) > 1).any((1, 2, 3)).mean() > 0.9


def test_sets_of_classes_keep_their_mass():
  right_BK = np.zeros((B, K), np.float32)
  for row, k in itertools.product(range(B), range(K)):
    right_BK[row, k] = (row + k) % 3 == 0
  _, mixed_BK = run(labels_BK=right_BK, cutmix=1.0, mix='example')
  _, weight_BB = run(cutmix=1.0, mix='example')
  np.testing.assert_allclose(mixed_BK, weight_BB @ right_BK, atol=1e-6)

"""Names of topologies, sizes of data sets, and what is said of wrong ones."""

import jax
import pytest

from vit_jax.config import ImageData
from vit_jax.errors import UserError
from vit_jax.parallel import chips, topology
from vit_jax.plan import compilers, sizes


@pytest.mark.parametrize(
  'text, chips, shape, groups, platform',
  [
    ('v5e:16x16', 256, (16, 16), 1, 'tpu'),
    ('2*v6e:8x8', 128, (8, 8), 2, 'tpu'),
    ('v5p:4x4x4', 64, (4, 4, 4), 1, 'tpu'),
    ('h100:8x32', 256, (8,), 32, 'cuda'),
    ('h200:8x4', 32, (8,), 4, 'cuda'),
    ('h100:8', 8, (8,), 1, 'cuda'),
    ('a100-40:8', 8, (8,), 1, 'cuda'),
    ('cpu:4', 4, (4,), 1, 'cpu'),
  ],
)
def test_names(text, chips, shape, groups, platform):
  place = topology.parse(text)
  assert (place.chips, place.shape, place.groups, place.chip.platform) == (
    chips,
    shape,
    groups,
    platform,
  )


@pytest.mark.parametrize(
  'text, expected',
  [
    ('v5e', 'such as v5e:16x16'),
    ('v5f:4x4', "did you mean 'v5"),
    ('v5e:4x4x4', 'AxB'),
    ('v5p:4x4', 'AxBxC'),
    ('v5e:0x4', 'AxB'),
    ('v5p:1x1x1', '4 on each'),
    ('0*v5e:4x4', "'0*v5e:4x4'"),
    ('h100:32x8', 'h100:8x32'),
    ('2*h100:8', 'slices'),
    ('8xh100', 'such as v5e:16x16'),
  ],
)
def test_wrong_names(text, expected):
  with pytest.raises(UserError) as error:
    topology.parse(text)
  sentence = str(error.value)
  assert '--topology' in sentence and expected in sentence and '\n' not in sentence


@pytest.mark.parametrize(
  'text, command',
  [
    ('v5e:4x4', "pip install --no-deps 'libtpu=="),
    ('h100:8', f"'jax-cuda13-plugin=={jax.__version__}' 'jax-cuda13-pjrt=={jax.__version__}'"),
  ],
)
def test_a_missing_compiler_is_named_with_its_command(text, command, monkeypatch):
  monkeypatch.setattr(compilers, '_installed', lambda module: False)
  with pytest.raises(UserError) as error:
    compilers.devices(topology.parse(text))
  assert command in str(error.value)


def test_too_few_cpu_devices():
  with pytest.raises(UserError, match='JAX_NUM_CPU_DEVICES=64'):
    compilers.devices(topology.parse('cpu:64'))


def test_a_chip_without_figures_is_not_planned_for():
  with pytest.raises(UserError, match='TPU v2.*known: v3, v4, v5e'):
    compilers.require(topology.parse('v2:2x2').chip)


@pytest.mark.parametrize('text', ['rtx3090:4x2', '2*v3:4x4'])
def test_groups_without_figures_of_their_links_are_refused(text):
  with pytest.raises(UserError, match='for the links between'):
    topology.parse(text)


def test_the_compiler_is_told_of_each_card():
  texts = {name: compilers.gpu_target(chip) for name, chip in chips.CHIPS.items() if chip.card}
  assert len({*texts.values()}) == len(texts) and not any('$' in text for text in texts.values())
  assert 'core_count: 108' in texts['a100-40'] and 'major: 8 minor: 0' in texts['a100-40']
  assert 'feature_extension: NONE' in texts['rtx4090'] and 'major: 8 minor: 9' in texts['rtx4090']


@pytest.mark.parametrize(
  'kind, peak',
  [
    ('TPU v5 lite', 197e12),
    ('TPU v5p', 459e12),
    ('TPU v5', 459e12),
    ('TPU v3', 61.5e12),  # a device is one of two cores
    ('NVIDIA H100 80GB HBM3', 989e12),
    ('NVIDIA A100-SXM4-40GB', 312e12),
    ('NVIDIA A100-SXM4-80GB', 312e12),
    ('NVIDIA GeForce RTX 4090', 165.2e12),
    ('NVIDIA GeForce RTX 4090 Laptop GPU', None),
    ('cpu', None),
    ('Radeon', None),
  ],
)
def test_the_datasheet_of_a_device(kind, peak):
  assert chips.datasheet_peak(kind) == peak


def test_sizes_of_data_sets():
  assert sizes.data_size(ImageData(name='imagenet2012:5.1.0', train='train[:99%]')) == (
    1_268_355,
    1000,
  )
  assert sizes.data_size(ImageData(name='imagenet21k', train='full[51200:]')) == (
    14_145_922,
    21_843,
  )
  assert sizes.data_size(ImageData(name='earth_climate')) == (8_282, 14)
  assert sizes.data_size(ImageData(name='folder', dir='x', train='train'), 500, 7) == (500, 7)
  with pytest.raises(UserError, match='give --num_examples'):
    sizes.data_size(ImageData(name='folder', dir='x'))
  with pytest.raises(UserError, match='give --num_classes'):
    sizes.data_size(ImageData(name='nobody'), 500)
  with pytest.raises(UserError, match='has no split'):
    sizes.data_size(ImageData(name='cifar10', train='nothing'))

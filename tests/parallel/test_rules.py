"""Which axis a leaf is split on, what may be replicated, and how every model is split."""

import re
from typing import Any

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from vit_jax import models
from vit_jax.config import Optim
from vit_jax.errors import UserError
from vit_jax.parallel import rules
from vit_jax.parallel.mesh import AXES
from vit_jax.train.optim import make_optimizer
from vit_jax.train.state import init_state
from vit_jax.trees import flatten

QKV, UP = 'params/encoder/blocks/attention/qkv/kernel', 'params/encoder/blocks/mlp/up/kernel'


def mesh_of(*sizes: int) -> Any:
  """A mesh without devices, so it may have more than there are here."""
  return AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * 4)


@pytest.mark.parametrize(
  'name, shape, sizes, spec, note',
  [
    # The rule's own axis, though another is larger.
    (UP, (12, 768, 3072), (1, 8, 1, 1), P(None, 'fsdp', 'tensor'), ''),
    # The largest of the others; tensor has it, or is 1 and leaves it free.
    (UP, (12, 192, 768), (1, 256, 1, 1), P(None, None, 'fsdp'), 'fsdp on 768: 192 is not'),
    (UP, (12, 36, 64), (1, 8, 2, 1), P(None, None, 'tensor'), 'not over fsdp'),
    # Layers are sliced one by one, so never their axis.
    (UP, (8, 36, 36), (1, 8, 1, 1), P(None, None, 'tensor'), 'not over fsdp'),
    ('params/head/kernel', (36, 1000), (1, 8, 1, 1), P(None, 'fsdp'), 'fsdp on 1000: 36 is not'),
    # Without a rule: the largest that divides, if the leaf is not small.
    ('params/new/kernel', (512, 1026, 8), (1, 8, 1, 1), P('fsdp', None, None), ''),
    ('params/new/kernel', (8, 8), (1, 8, 1, 1), P(), ''),
    ('params/encoder/blocks/norm1/scale', (12, 768), (1, 8, 1, 1), P(None, 'fsdp'), ''),
  ],
)
def test_fsdp_takes_the_preferred_axis_else_the_largest(name, shape, sizes, spec, note):
  place = rules.place(name, shape, mesh_of(*sizes))
  assert place.spec == spec
  assert place.note.startswith(note) and bool(place.note) == bool(note)


@pytest.mark.parametrize(
  'name, shape, sizes, words',
  [
    (
      QKV,
      (12, 192, 3, 3, 64),
      (1, 1, 8, 1),
      (
        'attention/qkv/kernel of shape (12, 192, 3, 3, 64)',
        "'tensor'",
        'tensor 8',
        'config.mesh.tensor to 1',
      ),
    ),
    (
      QKV,
      (48, 1664, 3, 16, 104),
      (1, 256, 1, 1),  # ViT-G; 1664 is 6.5 x 256
      (
        'attention/qkv/kernel of shape (48, 1664, 3, 16, 104)',
        '1664, 3, 16, 104',
        'replica 1, fsdp 256, tensor 1, sequence 1',
        'config.mesh.fsdp to 128 and config.mesh.replica to 2',
      ),
    ),
    ('params/head/kernel', (1280, 1000), (4, 1, 2, 1), ('would be replicated', 'config.mesh.fsdp')),
  ],
)
def test_what_cannot_be_split_names_parameter_axis_mesh_and_remedy(name, shape, sizes, words):
  with pytest.raises(UserError) as error:
    rules.place(name, shape, mesh_of(*sizes))
  assert all(word in str(error.value) for word in words), str(error.value)


def leaves(**shapes) -> dict:
  return {name: jax.ShapeDtypeStruct(shape, 'float32') for name, shape in shapes.items()}


def test_the_remedy_is_one():
  mesh = mesh_of(2, 128, 1, 1)
  assert rules.place(QKV, (48, 1664, 3, 16, 104), mesh).spec[1] == 'fsdp'


def test_many_middling_leaves_may_not_be_replicated_together():
  """None is large; the 48 M elements of the tree may have 2 % of such, and these are more."""
  mesh, head = mesh_of(1, 8, 1, 1), {'head': leaves(kernel=(48, 1000_000))}
  odd = {f'new{i}': leaves(kernel=(999, 1001)) for i in range(2)}
  rules.shardings({**head, 'new0': odd['new0']}, mesh)
  with pytest.raises(
    UserError,
    match=r'4\.0% .* 2% .* new0/kernel .* set a smaller config\.mesh\.fsdp',
  ):
    rules.shardings({**head, **odd}, mesh)
  rules.shardings({**head, **odd}, mesh_of(8, 1, 1, 1))  # copies are what replica is for


def test_bytes_are_those_a_device_holds():
  mesh = mesh_of(2, 2, 2, 1)
  tree = {
    'params': {
      'head': leaves(kernel=(1000, 100)),
      'blocks': {'mlp': {'up': leaves(kernel=(3, 64, 256))}},
    },
    'step': jax.ShapeDtypeStruct((), 'int32'),
  }
  abstract = rules.abstract(tree, mesh)
  assert rules.bytes_per_chip(abstract) == {
    'params/head/kernel': 4 * 100_000 // 2,
    'params/blocks/mlp/up/kernel': 3 * 64 * 256,
    'step': 4,
  }
  text = rules.table(tree, mesh)
  assert [line.split()[-1] for line in text.splitlines()] == ['49,152', '200,000', '4']
  assert rules.summary(abstract, mesh) == (
    '8 devices (replica 2, fsdp 2, tensor 2, sequence 1); MB on each: params 0.249; 0.249 in all'
  )


# The first name of every entry; one of each family at every run, the others with -m slow.
NAMES = [next(iter(entry.names(base))) for base, entry in models.MODELS.items()]
OFTEN = (
  'B/16', 'G/14', 'DINOv2-g/14', 'CaiT-XXS36', 'R26+S/32', 'ResNet-18', 'AlexNet', 'RNN-LSTM',
  'Transformer-base',
)  # fmt: skip
EVERY = [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


def state_of(name: str):
  """The AdamW state of a model as shapes."""
  tx = make_optimizer(Optim(), lambda step: 1e-3)
  if models.reads_text(name):
    model, shape = models.build(name, 32_000, inputs=models.Texts(32_000)), (8, 8)
  else:
    inputs = models.inputs_of(name)
    model, shape = models.build(name, 1000), (*inputs.size, len(inputs.mean))
  return jax.eval_shape(lambda: init_state(model, tx, shape, 0))


def whole(state, mesh) -> tuple[int, int, int]:
  """Elements that every device holds all of, the most of them in one leaf, and all there are."""
  lie = flatten(rules.shardings(state, mesh))
  sizes = {name: leaf.size for name, leaf in flatten(state).items()}
  kept = [size for name, size in sizes.items() if lie[name].is_fully_replicated]
  return sum(kept), max(kept), sum(sizes.values())


@pytest.mark.parametrize('name', EVERY)
def test_every_model_is_split_or_the_error_says_what_to_change(name):
  """On 8 devices with fsdp all are split. On 256 a width such as 1664 is not, and the sentence
  says how many devices it is on: doing so helps."""
  assert {*OFTEN} <= {*NAMES}
  state = state_of(name)
  for sizes in ((1, 8, 1, 1), (2, 4, 1, 1), (1, 256, 1, 1), (1, 8, 2, 1), (4, 1, 2, 1)):
    start, refused = sizes, []
    while True:
      try:
        kept, most, total = whole(state, mesh_of(*sizes))
        break
      except UserError as error:
        assert words_of(sizes) in str(error)
        refused.append(sizes)
        sizes = remedy(str(error), sizes)
    assert not refused or start[1:3] not in ((8, 1), (4, 1))
    if sizes[1] * sizes[2] > 1:  # heads that no number divides leave replicas alone
      assert most <= 1 << 20 and kept <= max(0.02 * total, 1 << 20)
      assert kept < total or total < 1 << 20


def words_of(sizes) -> str:
  return ', '.join(f'{axis} {size}' for axis, size in zip(AXES, sizes, strict=True))


def remedy(sentence: str, sizes: tuple[int, ...]) -> tuple[int, ...]:
  """The mesh after what a sentence asks for."""
  asked = {axis: int(size) for axis, size in re.findall(r'config\.mesh\.(\w+) to (\d+)', sentence)}
  if 'a smaller config.mesh.fsdp' in sentence:
    asked = {'fsdp': sizes[1] // 2, 'replica': sizes[0] * 2}
  assert asked, sentence
  return tuple(asked.get(axis, size) for axis, size in zip(AXES, sizes, strict=True))

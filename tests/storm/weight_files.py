"""Weight files that are damaged, hostile or odd, and folders of Hugging Face."""

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.storm.file_bytes import cuts, flips, header, npy, npz, tensors
from tests.storm.verdicts import Case, Outcome, generator
from tests.storm.world import World
from vit_jax.layouts import files

ODD = (
  None,
  -1,
  0,
  1e999,
  'abc',
  '',
  [],
  {},
  10**30,
  2**31,
  1.5,
  True,
  [1, 2, 3],
  {'a': {}},
  'a\nb',
)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
  return files.read(path)


def odd_arrays(good: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, Any], str]]:
  """(what, arrays, what is expected) of one array that is odd."""
  name = max(good, key=lambda key: good[key].size)
  array = good[name]
  for what, odd, expects in (
    ('transposed', array.T.copy(), 'either'), ('more axes', array[None], 'either'),
    ('flat', array.ravel(), 'either'), ('0-d', np.float32(1), 'sentence'),
    ('empty', array[:0], 'sentence'), ('float64', array.astype(float), 'right'),
    ('float16', array.astype(np.float16), 'right'), ('int', array.astype(int), 'sentence'),
    ('bool', array > 0, 'sentence'), ('complex', array + 0j, 'sentence'),
    ('big-endian', array.astype('>f4'), 'right'), ('text', array.astype(str), 'sentence'),
    ('dates', np.zeros(array.shape, 'M8[s]'), 'sentence'),
    ('records', np.zeros(array.shape, [('a', 'f4')]), 'sentence'),
    ('Fortran', np.asfortranarray(array), 'right'), ('V2', np.zeros(array.shape, 'V2'), 'right'),
    ('V4', np.zeros(array.shape, 'V4'), 'sentence'), ('U0', np.zeros(array.shape, '<U0'),
    'sentence'),
    ('nan', np.where(array == array.max(), np.nan, array), 'sentence'),
    ('inf', np.where(array == array.max(), np.inf, array), 'sentence'),
    ('too large', np.full(array.shape, 1e300), 'sentence'),
  ):  # fmt: skip
    yield f'{name} is {what}', {**good, name: odd}, expects
  names = sorted(good)
  for key in names:
    yield f'without {key}', {k: v for k, v in good.items() if k != key}, 'either'
  pairs = [(a, b) for a in names for b in names if a < b and good[a].shape != good[b].shape]
  for a, b in generator('swapped').sample(pairs, 30):
    yield f'{a} and {b} swapped', {**good, a: good[b], b: good[a]}, 'sentence'
  one = next(iter(good.values())).ravel()[:1]
  for extra in (
    'x',
    '',
    '..',
    '../../x',
    '/etc/x',
    'a' * 300,
    'a\nb',
    '\udcff'.encode('utf-8', 'replace').decode(),
    'é',
  ):
    yield f'with {extra[:20]!r}', {**good, extra: one}, 'either'
  yield 'with 30,000 unknown names', {**good, **{f'n{i}': one for i in range(30_000)}}, 'either'
  yield '30,000 unknown names', {f'n{i}': one for i in range(30_000)}, 'sentence'
  yield 'all prefixed', {f'module.{key}': value for key, value in good.items()}, 'either'
  yield 'nothing', {}, 'sentence'


def archives(good: dict[str, np.ndarray]) -> Iterator[tuple[str, bytes]]:
  """Archives that must be refused."""
  members = {f'{key}.npy': npy(value) for key, value in good.items()}
  first = next(iter(members))
  tall = '(' + '1000000000000,' + ')'
  for what, content in (
    ('<U0 of 10^12', header("'<U0'", tall)), ('f4 of 10^12', header("'<f4'", tall)),
    ('V0 of 10^12', header("'V0'", tall)), ('S0 of 10^18', header("'|S0'", '(10**18,)')),
    ('a negative shape', header("'<f4'", '(-1,)')), ('a shape that overflows', header("'<f4'",
    '(2**32, 2**32)')),
    ('objects', header("'|O'", '(1,)', b'cos\nsystem\n(S"true"\ntR.')), ('no dtype', header('None',
    '(1,)')),
    ('a dtype of code', header('__import__("os")', '(1,)')), ('deep brackets', header('[' * 900,
    '(1,)')),
    ('a deep shape', header("'<f4'", '(' * 900)), ('version 9', b'\x93NUMPY\x09\x00' + b'\0' * 200),
    ('no magic', b'abc' * 50), ('empty', b''), ('text', b'hello'), ('short data', header("'<f4'",
    '(100,)', b'x')),
    ('sub-arrays', header("('<f4', (10**9, 10**9))", '(1,)')), ('a bool shape', header("'<f4'",
    '(True,)')),
    ('fields', header("[('a', '<f4')]", '(1,)', b'abcd')), ('a float shape', header("'<f4'",
    '(1.0,)')),
  ):  # fmt: skip
    yield f'{first} has {what}', npz({**members, first: content})
  zeros = npy(np.zeros(2**24 + 2**20, np.float32))
  bomb = {**members, 'zeros.npy': zeros}
  for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
    yield f'a bomb by method {method}', npz(bomb, method)
  for name in (
    '../../evil.npy',
    '/evil.npy',
    'a\\..\\..\\b.npy',
    'x.txt',
    'x',
    '.npy',
    'dir/',
    'a\0b.npy',
  ):
    yield f'a member {name!r}', npz({**members, name: members[first]})
  whole = npz(members)
  yield (
    'an encrypted member',
    whole.replace(b'PK\x01\x02\x14\x03\x14\x00\x00', b'PK\x01\x02\x14\x03\x14\x00\x01'),
  )
  yield 'zip in zip', npz({'x.npy': whole})


def headers(good: dict[str, np.ndarray]) -> Iterator[tuple[str, bytes]]:
  """Files of safetensors that must be refused."""
  one = {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}
  for what, head in (
    ('a list', [one]), ('text', 'abc'), ('null', None), ('empty', b''), ('deep', b'[' * 10_000),
    ('an overlap', {'a': one, 'b': one}), ('a hole', {'a': {**one, 'data_offsets': [2, 6]}}),
    ('beyond', {'a': {**one, 'data_offsets': [0, 2**40]}}), ('backward', {'a': {**one,
    'data_offsets': [4, 0]}}),
    ('negative', {'a': {**one, 'shape': [-1]}}), ('huge', {'a': {**one, 'shape': [2**40, 2**40]}}),
    ('a text shape', {'a': {**one, 'shape': 'x'}}), ('no dtype', {'a': {'shape': [1]}}), ('F99',
    {'a': {**one, 'dtype': 'F99'}}),
    ('F8', {'a': {**one, 'dtype': 'F8_E4M3', 'data_offsets': [0, 1]}}), ('metadata',
    {'__metadata__': 3, 'a': one}),
    ('I64', {'a': {**one, 'dtype': 'I64', 'data_offsets': [0, 8]}}), ('no data', {'a': one}),
  ):  # fmt: skip
    yield f'a header of {what}', tensors(head, b'\0' * (0 if what == 'no data' else 4))
  for size in (2**63, 2**40, 10**8, 0, 1):
    yield f'a header of {size} bytes', tensors({'a': one}, b'\0' * 4, size)


def hugging_faces(folder: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
  """Changes of a folder of Hugging Face."""

  def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda place: (place / name).write_bytes(data) and None

  config = json.loads((folder / 'config.json').read_text())
  for key in config:
    for value in ODD:
      yield (
        f'config.json: {key} is {str(value)[:20]}',
        write('config.json', json.dumps({**config, key: value})),
      )
    rest = {k: v for k, v in config.items() if k != key}
    yield f'config.json: no {key}', write('config.json', json.dumps(rest))
  for text in ('', '[]', 'null', '{', '"x"', '3', b'\xff\xfe', '{' * 5000, '[' * 100_000):
    for name in ('config.json', 'preprocessor_config.json'):
      yield f'{name} is {text[:10]!r}', write(name, text)
  right = {'image_mean': [0.5] * 3, 'image_std': [0.5] * 3, 'size': {'height': 16, 'width': 16},
           'do_resize': True, 'resample': 3, 'do_center_crop': True, 'crop_size': 16}  # fmt: skip
  for key in right:
    for value in ODD:
      yield (
        f'preprocessor: {key} is {str(value)[:20]}',
        write('preprocessor_config.json', json.dumps({**right, key: value})),
      )

  def index(value: Any) -> Callable[[Path], None]:
    def change(place: Path) -> None:
      (place / 'model.safetensors').rename(place / 'model-1.safetensors')
      (place / 'model.safetensors.index.json').write_text(json.dumps(value))

    return change

  for value in (None, {}, [], {'weight_map': None}, {'weight_map': []}, {'weight_map': {'a': 3}},
                {'weight_map': {'a': '../../etc/passwd'}}, {'weight_map': {'a': '/etc/passwd'}},
                {'weight_map': {'a': 'model-1.safetensors'}},
                {'weight_map': {'a': 'nowhere.safetensors'}},
                {'weight_map': {'a': ['model-1.safetensors']}}, {'weight_map': 'abc'}):  # fmt: skip
    yield f'an index {value}', index(value)


def places(world: World, folder: Path) -> Iterator[tuple[str, Path]]:
  """What is no file of weights."""
  content = world.vit.read_bytes()
  for name in (
    'a.safetensors',
    'a.pt',
    'a.pth',
    'a.bin',
    'a.pkl',
    'a',
    'a.NPZ',
    'a.tar',
    'a.h5',
    'a.txt',
  ):
    path = folder / 'names' / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    yield f'an .npz as {name}', path
  for name, make in (
    ('folder.npz', Path.mkdir), ('fifo.npz', os.mkfifo), ('loop.npz', lambda p: p.symlink_to(p)),
    ('zero.npz', lambda p: p.symlink_to('/dev/zero')), ('gone.npz',
    lambda p: p.symlink_to('/nowhere')),
  ):  # fmt: skip
    path = folder / name
    if not os.path.lexists(path):
      make(path)
    yield name, path


def cases(world: World) -> list[Case]:
  folder = world.folder / 'weights'
  folder.mkdir(exist_ok=True)
  good, content = arrays_of(world.vit), world.vit.read_bytes()
  safetensors = (world.hugging_face / 'model.safetensors').read_bytes()
  found: list[Case] = []

  def check(outcome: Outcome, same: bool) -> str:
    out = world.folder / 'made' / 'out.npz'
    if not out.exists():
      return 'nothing was written'
    arrays = files.read(out)
    if not all(np.isfinite(array).all() for array in arrays.values()):
      return 'numbers that are not finite were written'
    if same and any(not np.array_equal(arrays[name], good[name]) for name in good):
      return 'other weights than those of the file were written'
    return ''

  def add(what: str, path: Path, make: Callable[[], Any], expects: str, same: bool = False) -> None:
    argv = ['convert', f'--from={path}', f'--to={world.folder / "made" / "out.npz"}',
        '--model=Ti/8',
            '--option=width=32', '--option=depth=2', '--option=heads=2',
            '--option=mlp=64']  # fmt: skip

    def begin() -> None:
      (world.folder / 'made' / 'out.npz').unlink(missing_ok=True)
      make()

    found.append(Case(what, argv, expects, lambda o: check(o, same), begin))

  def of_bytes(what: str, data: bytes, suffix: str, expects: str, same: bool = False) -> None:
    packed, path = zlib.compress(data, 1), folder / f'file{suffix}'
    add(f'{suffix}: {what}', path, lambda: path.write_bytes(zlib.decompress(packed)), expects, same)

  of_bytes('good', content, '.npz', 'right', True)
  for what, data in flips(content, 120, 'npz'):
    of_bytes(what, data, '.npz', 'either', True)
  for what, data in cuts(content, 40, 'npz'):
    of_bytes(what, data, '.npz', 'sentence')
  of_bytes('bytes after it', content + b'\0' * 100, '.npz', 'either', True)
  for what, arrays, expects in odd_arrays(good):
    of_bytes(
      what, npz({f'{key}.npy': npy(value) for key, value in arrays.items()}), '.npz', expects
    )
  for what, data in archives(good):
    of_bytes(what, data, '.npz', 'sentence')
  for what, data in (*flips(safetensors, 60, 'safetensors'), *flips(safetensors[:900], 60, 'head')):
    of_bytes(what, data + safetensors[len(data):], '.safetensors', 'either')  # fmt: skip
  for what, data in cuts(safetensors, 20, 'safetensors'):
    of_bytes(what, data, '.safetensors', 'sentence')
  for what, data in headers(good):
    of_bytes(what, data, '.safetensors', 'sentence')
  for what, path in places(world, folder):
    add(what, path, lambda: None, 'either' if path.suffix == '.NPZ' else 'sentence')

  def renewed(change: Callable[[Path], None]) -> Callable[[], None]:
    def make() -> None:
      shutil.rmtree(folder / 'hf', ignore_errors=True)
      shutil.copytree(world.hugging_face, folder / 'hf')
      change(folder / 'hf')

    return make

  for what, change in hugging_faces(world.hugging_face):
    add(f'Hugging Face: {what}', folder / 'hf', renewed(change), 'either')
  return found

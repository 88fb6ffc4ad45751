"""Images that are damaged, hostile or odd, through every reader."""

import csv
import functools
import io
import os
import shutil
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.storm.file_bytes import cuts, flips, header
from tests.storm.verdicts import Case, generator
from tests.storm.world import World

READERS = ('folder', 'table', 'webdataset', 'parquet', 'predict')


def photo(kind: str, size: tuple[int, int] = (40, 30), mode: str = 'RGB', **options) -> bytes:
  rng, stream = np.random.default_rng(0), io.BytesIO()
  pixels = rng.integers(0, 255, (*size, 4), np.uint8)
  Image.fromarray(pixels, 'RGBA').convert(mode).save(stream, kind, **options)
  return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
  return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def png(width: int, height: int, bits: int, color: int, data: bytes, *more: bytes) -> bytes:
  head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, color, 0, 0, 0))
  rest = b''.join(more) + chunk(b'IDAT', data) + chunk(b'IEND', b'')
  return b'\x89PNG\r\n\x1a\n' + head + rest


def zeros(count: int, piece: int = 10**7) -> bytes:
  """`count` zeros as zlib compresses them, from one piece of them: it would take seconds."""
  packer = zlib.compressobj(9, wbits=-15)
  packed = packer.compress(bytes(piece)) + packer.flush(zlib.Z_FULL_FLUSH)
  end = zlib.compressobj(9, wbits=-15).flush()
  return b'\x78\xda' + packed * (count // piece) + end + struct.pack('>HH', count % 65_521, 1)


def bombs() -> Iterator[tuple[str, bytes]]:
  """Small files that say they are large, or are."""
  for side in (10_000, 30_000, 54_000, 65_535, 2**31 - 1):
    yield f'a PNG of {side} pixels a side', png(side, side, 8, 2, zlib.compress(b'\0' * 1000))
    yield f'a gray PNG of {side} pixels a side', png(side, side, 1, 0, zlib.compress(b'\0' * 1000))
    yield f'a wide PNG of {side}', png(side, 1, 8, 2, zlib.compress(b'\0' * (3 * min(side, 10**6))))
    yield f'a BMP of {side}', b'BM' + struct.pack('<IHHI', 100, 0, 0, 54) + struct.pack(
      '<IiiHHIIiiII', 40, min(side, 2**31 - 1), min(side, 2**31 - 1), 1, 24, 0, 0, 0, 0, 0,
      0)  # fmt: skip
    yield f'a PPM of {side}', f'P6 {side} {side} 255\n'.encode() + b'\0' * 99
    if side < 2**16:
      jpeg = bytearray(photo('JPEG'))
      at = jpeg.index(b'\xff\xc0') + 5
      jpeg[at : at + 4] = struct.pack('>HH', side, side)
      yield f'a JPEG of {side}', bytes(jpeg)
      yield f'a GIF of {side}', b'GIF89a' + struct.pack('<HH', side, side) + photo('GIF')[10:]
    yield f'a .npy of {side}', header("'|u1'", f'({side}, {side}, 3)')
  yield 'a zlib bomb', png(64, 64, 8, 2, zeros(10**9))
  text = chunk(b'zTXt', b'a\0\0' + zlib.compress(b'a' * 10**8))
  yield 'a text bomb', png(8, 8, 8, 2, zlib.compress(b'\0' * 200), text)
  profile = chunk(b'iCCP', b'a\0\0' + zlib.compress(b'a' * 10**8))
  yield 'a profile bomb', png(8, 8, 8, 2, zlib.compress(b'\0' * 200), profile)
  for tag, value in ((256, 10**6), (257, 10**6), (277, 60_000), (258, 64)):
    tiff = bytearray(photo('TIFF'))
    for at in range(8, len(tiff) - 12):
      if struct.unpack_from('<HH', tiff, at) in ((tag, 3), (tag, 4)):
        struct.pack_into('<HII', tiff, at + 2, 4, 1, value)
        break
    yield f'a TIFF with tag {tag} of {value}', bytes(tiff)


def odd() -> Iterator[tuple[str, bytes]]:
  """Images of rare kinds, and what is none."""
  for kind, mode in (
    ('PNG', '1'), ('PNG', 'L'), ('PNG', 'LA'), ('PNG', 'P'), ('PNG', 'RGBA'), ('JPEG', 'CMYK'),
    ('JPEG', 'L'), ('GIF', 'P'), ('TIFF', 'F'), ('TIFF', 'I'), ('TIFF', 'CMYK'), ('TIFF', 'LAB'),
    ('WEBP', 'RGBA'), ('BMP', '1'), ('JPEG2000', 'RGB'), ('PPM', 'L'), ('TGA', 'RGB'), ('ICO',
    'RGBA'),
  ):  # fmt: skip
    yield f'{kind} of mode {mode}', photo(kind, mode=mode)
  yield '1 x 1', photo('PNG', (1, 1))
  yield '1 x 3000', photo('PNG', (1, 3000))
  yield '3000 x 1', photo('JPEG', (3000, 1))
  yield 'progressive', photo('JPEG', progressive=True)
  yield '0 x 0', png(0, 0, 8, 2, zlib.compress(b''))
  for content in (
    b'',
    b'\0',
    b'\xff\xd8\xff',
    b'GIF89a',
    b'RIFF',
    b'hello' * 99,
    b'\x89PNG\r\n\x1a\n',
    b'<svg/>',
  ):
    yield f'the bytes {content[:8]!r}', content
  for orientation in (0, 3, 6, 9, 65_535):
    exif = Image.Exif()
    exif[0x0112] = orientation
    yield f'turned {orientation}', photo('JPEG', exif=exif)
  for descr, shape in (("'<f4'", '(8, 8, 3)'), ("'|O'", '(8, 8, 3)'), ("'<U0'", '(10**12,)'),
      ("'|u1'", '(8,)'),
                       ("'<c8'", '(8, 8, 3)'), ("'|b1'", '(8, 8)'), ("'>f8'", '(4, 4)'), ("'|u1'",
                       '()')):  # fmt: skip
    yield f'.npy {descr} {shape}', header(descr, shape, b'\x7f' * 8 * 8 * 3 * 8)
  for value in (np.nan, np.inf, -1.0, 1e30):
    stream = io.BytesIO()
    np.save(stream, np.full((8, 8, 3), value, np.float32))
    yield f'.npy of {value}', stream.getvalue()


@functools.cache
def images() -> list[tuple[str, bytes]]:
  found = [*bombs(), *odd()]
  for kind in ('JPEG', 'PNG', 'GIF', 'TIFF', 'WEBP', 'BMP'):
    content = photo(kind)
    found += [(f'{kind}, {what}', data) for what, data in flips(content, 25, kind)]
    heads = flips(content[:200], 15, f'{kind} head')
    found += [(f'{kind}, {what}', data + content[200:]) for what, data in heads]
    found += [(f'{kind}, {what}', data) for what, data in cuts(content, 15, kind)]
  return found


SUFFIX = {b'\xff\xd8': '.jpg', b'\x89P': '.png', b'GI': '.gif', b'RI': '.webp', b'BM': '.bmp',
          b'II': '.tif', b'\x93N': '.npy', b'P6': '.ppm'}  # fmt: skip


# What is no file, and where it is put: in place of an image, or as one more archive.
SPECIAL = {
  'a pipe': os.mkfifo,
  'a socket': lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
  'a device': lambda path: path.symlink_to('/dev/zero'),
}
WHERE = {'webdataset': 'train-001.tar', 'parquet': 'train-00001.parquet'}


def place(reader: str, folder: Path, content: bytes, good: bytes) -> None:
  """Writes a data set of one hostile image and good ones, as `argv_of` names it."""
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  suffix = SUFFIX.get(content[:2], '.png')
  rows = [('a', good), ('b', good), ('a', content), ('b', good)]
  if reader in ('folder', 'table', 'predict'):
    for i, (label, data) in enumerate(rows):
      path = folder / label / f'{i}{suffix if data is content else ".png"}'
      path.parent.mkdir(exist_ok=True)
      path.write_bytes(data)
  if reader == 'table':
    with open(folder / 'table.csv', 'w', newline='') as file:
      lines = [(path.relative_to(folder), path.parent.name) for path in sorted(folder.glob('*/*'))]
      csv.writer(file).writerows([('image', 'label'), *lines])
  if reader == 'webdataset':
    with tarfile.open(folder / 'train-000.tar', 'w') as tar:
      for i, (label, data) in enumerate(rows):
        for name, part in (
          (f'{i}{suffix if data is content else ".png"}', data),
          (f'{i}.cls', label.encode()),
        ):
          info = tarfile.TarInfo(name)
          info.size = len(part)
          tar.addfile(info, io.BytesIO(part))
  if reader == 'parquet':
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = {
      'image': [{'bytes': data, 'path': None} for _, data in rows],
      'label': [label for label, _ in rows],
    }
    pq.write_table(pa.table(table), folder / 'train-00000.parquet')


def argv_of(reader: str, world: World, folder: Path) -> list[str]:
  """The command that reads what `place` makes."""
  if reader == 'predict':
    return ['predict', f'--weights={world.vit}', f'--input={folder}']
  names = {'table': f'table:{folder}/table.csv', 'parquet': f'huggingface:{folder}'}
  name = names.get(reader, f'{reader}:{folder}')
  return ['stats', name, '--config.data.image_size=(32, 32)']


def cases(world: World, each: int) -> list[Case]:
  """`each` images through each reader, other ones for each; and files that are none."""
  good = photo('PNG', (32, 32))
  folder, found = world.folder / 'hostile', []
  for reader in READERS:
    argv = argv_of(reader, world, folder)
    everything = images()
    chosen = generator(f'images {reader}').sample(everything, min(each, len(everything)))
    for what, content in chosen:

      def begin(reader=reader, content=content) -> None:
        place(reader, folder, content, good)

      found.append(Case(f'{reader}: {what}', argv, 'either', begin=begin))
    for what, make in SPECIAL.items():

      def replace(reader=reader, make=make) -> None:
        place(reader, folder, good, good)
        path = folder / WHERE.get(reader, 'a/2.png')
        path.unlink(missing_ok=True)
        make(path)

      found.append(Case(f'{reader}: {what}', argv, 'either', begin=replace))
  return found


def training(world: World, count: int) -> list[Case]:
  """Runs on folders of hostile images and a few good ones; what cannot be read is left out."""
  everything, rng = images(), generator('training')
  return [_training(world, number, rng.sample(everything, 40)) for number in range(count)]


def _training(world: World, number: int, chosen: list[tuple[str, bytes]]) -> Case:
  folder, run = world.folder / 'hostile', world.folder / 'made' / f'hostile-{number}'
  data = [f'--config.data.dir={folder}', '--config.data.on_bad_record=skip']
  length = ['--config.steps=2', '--config.checkpoint.every.steps=0']
  argv = ['train', f'--config={world.recipe}', f'--workdir={run}', *data, *length]

  def begin() -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for split in ('train', 'test'):
      for label in ('a', 'b'):
        (folder / split / label).mkdir(parents=True)
        (folder / split / label / 'good.png').write_bytes(photo('PNG', (32, 32)))
    for i, (_, content) in enumerate(chosen):
      place = folder / ('train', 'test')[i % 2] / ('a', 'b')[i // 2 % 2]
      (place / f'{i}{SUFFIX.get(content[:2], ".png")}').write_bytes(content)

  return Case(f'training {number}', argv, 'right', begin=begin)

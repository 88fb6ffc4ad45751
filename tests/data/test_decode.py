"""Geometry and formats, on images whose pixels are known."""

import io
import shlex
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from vit_jax.data import decode, region
from vit_jax.data.decode import BadImage, Box
from vit_jax.data.pixels import Pixels

RNG = np.random.default_rng(0)


def smooth(height, width):
  """A photo-like picture: no detail finer than about 16 pixels."""
  coarse = RNG.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
  return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(image, kind, **options):
  file = io.BytesIO()
  (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
  return file.getvalue()


def view(record, target, box=lambda height, width: Box(0, 0, height, width), channels=3):
  out_HWC = np.zeros((*target, channels), np.uint8)
  decode.decode_box(record, box, out_HWC)
  return out_HWC


def close(left, right, mean=1.0):
  return np.abs(left.astype(int) - right).mean() < mean


def test_a_box_is_cut_where_it_says():
  image_HWC = smooth(64, 96)
  for kind in ('png', 'bmp'):
    out_HWC = view(encode(image_HWC, kind), (20, 30), box=lambda h, w: Box(7, 11, 20, 30))
    np.testing.assert_array_equal(out_HWC, image_HWC[7:27, 11:41])


@pytest.mark.parametrize('factor', [2, 4, 8])
def test_scaled_jpeg_decoding_is_used_and_close_to_the_full_one(factor):
  image_HWC = smooth(417, 623)
  record = encode(image_HWC, 'jpeg', quality=95)
  height, width = -(-417 // factor), -(-623 // factor)
  assert decode.decode(record, 3, factor).shape == (height, width, 3)
  target = (400 // factor, 600 // factor)
  box, other = Box(8, 16, 400, 600), Box(0, 0, 400, 600)
  cheap = view(record, target, box=lambda h, w: box)
  full = view(decode.decode(record, 3), target, box=lambda h, w: box)
  assert (cheap != full).any()  # it did take another path
  assert close(cheap, full, 2.0)
  assert not close(cheap, view(record, target, box=lambda h, w: other), 10.0)  # the box moved along


def test_strong_reduction_is_antialiased():
  noise_HWC = RNG.integers(0, 256, (512, 512, 3), np.uint8)
  out_HWC = view(encode(noise_HWC, 'png'), (48, 48))
  plain_HWC = cv2.resize(noise_HWC, (48, 48), interpolation=cv2.INTER_LINEAR)
  deviation = noise_HWC.std()
  assert plain_HWC.std() > 0.3 * deviation
  assert out_HWC.std() < 0.15 * deviation
  assert close(out_HWC, cv2.resize(noise_HWC, (48, 48), interpolation=cv2.INTER_AREA), 5.0)


@pytest.mark.parametrize('mode', ['L', 'LA', 'RGBA', 'P', 'CMYK', '1', 'I;16'])
@pytest.mark.parametrize('channels', [1, 3])
def test_every_kind_of_pixel_becomes_gray_or_rgb(mode, channels):
  rgb_HW3 = smooth(64, 96)
  image = Image.fromarray(rgb_HW3)
  if mode == 'I;16':
    image = Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257)
  else:
    image = image.convert(mode)
  record = encode(image, *(('jpeg',) if mode == 'CMYK' else ('png',)))
  gray_HW = np.asarray(Image.fromarray(rgb_HW3).convert('L')).astype(int)
  if mode == '1':
    expected = np.asarray(image)[..., None] * 255 + np.zeros(3)
  elif mode == 'P':
    expected = np.asarray(image.convert('RGB'))
  elif mode in ('RGBA', 'CMYK'):
    expected = rgb_HW3
  else:
    expected = gray_HW[..., None] + np.zeros(3)
  if channels == 1:
    expected = (expected @ [0.299, 0.587, 0.114])[..., None]
  out_HWC = decode.decode(record, channels)
  assert out_HWC.shape == (64, 96, channels) and out_HWC.dtype == np.uint8
  assert close(out_HWC, expected, 2.0)


def test_sixteen_bit_color_keeps_its_high_byte():
  image_HWC = smooth(32, 32)
  record = cv2.imencode('.png', image_HWC[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
  np.testing.assert_array_equal(decode.decode(record, 3), image_HWC)


def test_arrays_pass_with_their_channels_adapted():
  rgb_HW3 = smooth(16, 32)
  np.testing.assert_array_equal(decode.decode(rgb_HW3, 3), rgb_HW3)
  gray_HW1 = decode.decode(rgb_HW3, 1)
  assert close(gray_HW1[..., 0], rgb_HW3 @ [0.299, 0.587, 0.114])
  np.testing.assert_array_equal(decode.decode(gray_HW1[..., 0], 3), gray_HW1.repeat(3, -1))
  alpha_HW4 = np.concatenate([rgb_HW3, np.zeros_like(gray_HW1)], -1)
  np.testing.assert_array_equal(decode.decode(alpha_HW4, 3), rgb_HW3)
  np.testing.assert_array_equal(decode.decode(rgb_HW3.astype(np.float32), 3), rgb_HW3)
  with pytest.raises(BadImage, match='complex'):
    decode.decode(rgb_HW3.astype(np.complex64), 3)
  with pytest.raises(BadImage, match='2 channels'):
    decode.decode(rgb_HW3[..., :2], 3)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['jpeg', 'png', 'webp', 'tiff'])
def test_an_image_is_upright_unless_it_is_left_as_stored(kind, orientation):
  stored, exif = Image.fromarray(smooth(32, 64)), Image.Exif()
  exif[0x0112] = orientation
  options = {'jpeg': {'quality': 95}, 'webp': {'lossless': True}}.get(kind, {})
  record = encode(stored, kind, exif=exif, **options)
  plain_HWC = decode.decode(encode(stored, kind, **options), 3)
  stored = Image.fromarray(plain_HWC)
  stored.getexif()[0x0112] = orientation
  upright_HWC = np.asarray(ImageOps.exif_transpose(stored))
  assert (upright_HWC.shape != plain_HWC.shape) == (orientation > 4)
  np.testing.assert_array_equal(decode.decode(record, 3), upright_HWC)
  as_stored = Pixels(upright=False)
  np.testing.assert_array_equal(decode.decode(record, 3, how=as_stored), plain_HWC)
  box = Box(3, 5, 16, 16)  # of the upright image
  expected_HWC = view(upright_HWC, (16, 16), box=lambda height, width: box)
  np.testing.assert_array_equal(view(record, (16, 16), box=lambda height, width: box), expected_HWC)


@pytest.mark.parametrize('bits, white', [(12, 4095), (16, 65535), (10, 1023)])
@pytest.mark.parametrize('kind', ['png', 'tiff'])
def test_more_than_eight_bits_are_scaled_by_their_depth(kind, bits, white):
  ramp_HW = np.linspace(0, white, 64 * 64).reshape(64, 64).astype(np.uint16)
  record = encode(ramp_HW, kind)
  expected_HW = np.round(ramp_HW / white * 255)
  for channels in (1, 3):
    out_HWC = decode.decode(record, channels)
    assert np.abs(out_HWC - expected_HW[..., None]).max() <= 1 and len(np.unique(out_HWC)) == 256
  told_HWC = decode.decode(record, 1, how=Pixels(white=2.0 * white))
  assert abs(int(told_HWC.max()) - 128) <= 1


@pytest.mark.parametrize('scale', [1.0, 255.0, 4000.0])
def test_floats_are_scaled_by_their_range(scale):
  ramp_HW = np.linspace(0, scale, 64 * 64, dtype=np.float32).reshape(64, 64)
  for record in (encode(ramp_HW, 'tiff'), npy(ramp_HW), ramp_HW):
    out_HWC = decode.decode(record, 1)
    assert np.abs(out_HWC[..., 0] - ramp_HW / scale * 255).max() <= 1
  below_zero_HW = ramp_HW - scale / 2
  assert decode.decode(below_zero_HW, 1).min() == 0 and decode.decode(below_zero_HW, 1).max() == 255
  ramp_HW[3, 3] = np.nan
  with pytest.raises(BadImage, match='not finite'):
    decode.decode(npy(ramp_HW), 1)


def npy(array):
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()


@pytest.mark.parametrize('channels', [2, 4, 5, 13])
def test_an_image_of_any_number_of_channels(channels):
  tifffile = pytest.importorskip('tifffile')
  image_HWC = RNG.integers(0, 256, (24, 40, channels), np.uint8)
  file, planes = io.BytesIO(), io.BytesIO()
  tifffile.imwrite(file, image_HWC, photometric='minisblack', planarconfig='contig')
  tifffile.imwrite(
    planes, image_HWC.transpose(2, 0, 1), photometric='minisblack', planarconfig='separate'
  )
  records = [npy(image_HWC), file.getvalue(), planes.getvalue()]
  if channels == 4:
    records.append(encode(Image.fromarray(image_HWC, 'RGBA'), 'png'))
  for record in records:
    np.testing.assert_array_equal(decode.decode(record, channels), image_HWC)
    with pytest.raises(BadImage, match=f'{channels} channels, not the 7'):
      decode.decode(record, 7)
  for interpolation in ('bilinear', 'bicubic'):
    out_HWC = np.zeros((8, 9, channels), np.uint8)
    decode.decode_box(records[0], lambda h, w: Box(2, 3, 20, 30), out_HWC, interpolation)
    for c in range(channels):  # as each channel alone
      plane_HW1 = np.zeros((8, 9, 1), np.uint8)
      plane = np.ascontiguousarray(image_HWC[..., c])
      decode.decode_box(plane, lambda h, w: Box(2, 3, 20, 30), plane_HW1, interpolation)
      np.testing.assert_allclose(out_HWC[..., c].astype(int), plane_HW1[..., 0], atol=1)


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
  png = bytearray(encode(np.zeros((8, 8), np.uint8), 'png'))
  png[16:24] = (60_000).to_bytes(4, 'big') * 2
  png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, 'big')
  header = (
    np.lib.format.magic(1, 0)
    + b'v\0'
    + (b"{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 60000), }".ljust(117) + b'\n')
  )
  for bomb in (bytes(png), header):
    with pytest.raises(BadImage, match='bomb'):
      decode.decode(bomb, 3)


@pytest.mark.parametrize('suffix', decode.SUFFIXES)
def test_every_suffix_that_is_searched_for_is_decoded(suffix):
  image_HWC = smooth(32, 48)
  if suffix == '.npy':
    record = npy(image_HWC)
  elif suffix == '.pgm':
    record = encode(Image.fromarray(image_HWC).convert('L'), 'PPM')
  else:
    kinds = {'.jfif': 'jpeg', '.jpe': 'jpeg', '.jpg': 'jpeg', '.tif': 'tiff', '.jp2': 'jpeg2000'}
    record = encode(image_HWC, kinds.get(suffix, suffix[1:]))
  out_HWC = decode.decode(record, 3)
  assert out_HWC.shape == (32, 48, 3)
  gray = suffix in ('.pgm',)
  assert gray or close(out_HWC, image_HWC, 16.0)
  assert suffix in ('.ppm', '.pgm') or decode.is_image(record[: decode.SNIFFED])


def test_stray_bytes_in_a_jpeg_do_no_harm():
  image_HWC = smooth(64, 64)
  record = encode(image_HWC, 'jpeg', quality=95)
  stray = record[:-2] + b'\0' * 30 + record[-2:]
  with pytest.raises(ValueError, match='extraneous'):
    simplejpeg.decode_jpeg(stray)
  assert close(decode.decode(stray, 3), image_HWC, 3.0)
  assert close(view(stray, (16, 16)), view(record, (16, 16)), 3.0)


@pytest.mark.parametrize('channels', [1, 3])
def test_mirror(channels):
  image_HWC = smooth(16, 32)[..., :channels].copy()
  out_HWC = image_HWC.copy()
  decode.mirror(out_HWC)
  assert (out_HWC != image_HWC).any()
  np.testing.assert_array_equal(out_HWC, image_HWC[:, ::-1])


PHOTO_KINDS = [
  *(dict(subsampling=kind) for kind in (0, 1, 2)),
  dict(progressive=True),
  dict(restart_marker_blocks=5),
  dict(quality=30),
]


@pytest.fixture
def crops():
  """Rectangles are decoded alone, with the extra `crops`, which is part of `test`."""
  pytest.importorskip('nvidia.nvimgcodec')
  assert region.available()


@pytest.mark.parametrize('options', PHOTO_KINDS, ids=str)
def test_a_rectangle_decoded_alone_has_the_same_pixels(crops, options, monkeypatch):
  record = encode(noisy(375, 500), 'jpeg', **options)
  alone = []
  monkeypatch.setattr(region, 'decode', lambda *args, of=region.decode: note(alone, of(*args)))
  for _ in range(40):
    h, w = int(RNG.integers(1, 340)), int(RNG.integers(1, 460))
    box = Box(int(RNG.integers(376 - h)), int(RNG.integers(501 - w)), h, w)
    out_HWC = view(record, (224, 224), box=lambda height, width, box=box: box)
    with monkeypatch.context() as patch:
      patch.setattr(region, 'available', lambda: False)
      whole_HWC = view(record, (224, 224), box=lambda height, width, box=box: box)
    assert np.abs(out_HWC.astype(int) - whole_HWC).max() <= 1
  assert len(alone) == 40 and all(part is not None for part in alone)


def note(parts, part):
  parts.append(part)
  return part


def noisy(height, width):
  """A picture with detail of every size."""
  noise = RNG.integers(-60, 60, (height, width, 3))
  coarse = cv2.resize(smooth(width, width), (width, height)).astype(int)
  return (coarse + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('stderr', ['', '2>&-'])
def test_loading_the_library_is_quiet(crops, stderr):
  code = 'from vit_jax.data import region; assert region.available()'
  command = f'exec {shlex.join([sys.executable, "-c", code])} {stderr}'
  done = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)
  assert not done.stdout + done.stderr


def test_an_orientation_is_not_applied_to_a_rectangle(crops):
  image_HWC, exif = smooth(96, 96), Image.Exif()
  exif[0x0112] = 6
  record = encode(image_HWC, 'jpeg', quality=95, exif=exif)
  part = region.decode(record, 8, 40, 30, 20)
  assert part is not None and close(part, image_HWC[8:38, 40:60], 4.0)


def test_a_rectangle_of_a_file_cut_short_is_refused(crops):
  record = encode(noisy(200, 200), 'jpeg')
  box = Box(4, 4, 40, 40)  # far above the cut
  assert view(record, (40, 40), box=lambda h, w: box).any()
  for length in (len(record) - 2, len(record) // 2):
    with pytest.raises(BadImage):
      view(record[:length], (40, 40), box=lambda h, w: box)


def test_without_the_extra_all_is_decoded_whole(monkeypatch):
  monkeypatch.setattr(region, 'available', lambda: False)
  monkeypatch.setattr(region, 'decode', lambda *args: pytest.fail('it is not installed'))
  image_HWC = smooth(96, 96)
  out_HWC = view(
    encode(image_HWC, 'jpeg', quality=95), (30, 20), box=lambda h, w: Box(8, 40, 30, 20)
  )
  assert close(out_HWC, image_HWC[8:38, 40:60], 4.0)

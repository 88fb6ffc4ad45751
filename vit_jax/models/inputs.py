"""The images that a model expects: one description of what is done to them before."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_type_hints

from vit_jax.errors import UserError
from vit_jax.fields import bounded, check

Aspect = Literal['keep', 'change']
Interpolation = Literal['bicubic', 'bilinear']
Crops = tuple[tuple[int, float], ...]  # (side in pixels from which it holds, crop)

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Inputs:
  """The images that a model's weights expect; it changes no computation.

  `data.view.View` makes the pixels.

  Attributes:
    size: height and width in pixels.
    mean, std: of pixels in [0, 1], for each channel.
    crop: side of the central crop over the shorter side after resizing.
    interpolation: of resizing.
    aspect: that of the image is kept, or changed to that of `size`, so that with crop 1 the whole
      image is seen.
    antialias: the filter widens where an image is made smaller, as in Pillow; False is
      TensorFlow's plain bilinear.
    upright: images are turned as their EXIF data say.
    white: of images of more than 8 bits, the value that is white; 0: by each one's own range.
    class_names: of the head's classes, in order; empty where they are not known.
    source: who says so.
  """

  size: tuple[int, int] = bounded((224, 224), low=1)
  mean: tuple[float, ...] = HALF
  std: tuple[float, ...] = bounded(HALF, low=1e-6)
  crop: float = bounded(0.875, low=0.05, high=1.0)
  interpolation: Interpolation = 'bicubic'
  aspect: Aspect = 'keep'
  antialias: bool = True
  upright: bool = True
  white: float = bounded(0.0, low=0)
  class_names: tuple[str, ...] = field(default=(), repr=False)
  source: str = field(default='', repr=False, compare=False)

  def __post_init__(self):
    check_antialias(self.antialias, self.interpolation)

  @property
  def words(self) -> str:
    """As in '224x224, crop 0.9, bicubic, mean 0.5, std 0.5'."""
    parts = ['x'.join(map(str, self.size)), f'crop {self.crop:.4g}', self.interpolation]
    parts += ['aspect changed'] * (self.aspect == 'change')
    parts += ['not antialiased'] * (not self.antialias)
    parts += ['as stored, not upright'] * (not self.upright)
    parts += [f'white is {self.white:g}'] * bool(self.white)
    for name, values in (('mean', self.mean), ('std', self.std)):
      numbers = [f'{value:g}' for value in values]
      parts.append(f'{name} {numbers[0] if len(set(numbers)) == 1 else ",".join(numbers)}')
    return ', '.join(parts)


def check_antialias(antialias: bool, interpolation: str, prefix: str = '') -> None:
  """Raises a UserError for what no library does; it begins with the key, after `prefix`."""
  if not antialias and interpolation != 'bilinear':
    raise UserError(
      f"{prefix}antialias is False, which is TensorFlow's bilinear; {prefix}interpolation must "
      f"then be 'bilinear', not {interpolation!r}"
    )


def at(inputs: Inputs, size: tuple[int, int], crops: Crops = ()) -> Inputs:
  """The same for images of another size, where published weights may be cropped otherwise."""
  crop = [inputs.crop, *(crop for side, crop in crops if min(size) >= side)][-1]
  return replace(inputs, size=size, crop=crop)


def uncropped(size: tuple[int, int], crop: float) -> tuple[int, int]:
  """(height, width) to resize to, of which the center is `crop` and has `size`."""
  # A whole number that is less by a rounding error counts as that number.
  height, width = (int(side / crop + 1e-6) for side in size)
  return height, width


def changed(inputs: Inputs, values: Mapping[str, Any]) -> Inputs:
  """With what a user says by flags: `mean` and `std` may be one number for all channels.

  Raises:
    UserError: a value is out of range, or does not fit the channels; it begins with the flag.
  """
  if not values:
    return inputs
  hints, limits = get_type_hints(Inputs), {f.name: f.metadata for f in fields(Inputs)}
  found = {}
  for key, value in values.items():
    if key in ('mean', 'std'):
      value, channels = tuple(value), len(inputs.mean)
      value = value * channels if len(value) == 1 else value
      if len(value) != channels:
        raise UserError(
          f'--{key} has {len(value)} numbers, but the model sees {channels} channels; give one for '
          'each, or one for all'
        )
    found[key] = check(value, hints[key], f'--{key}', limits[key])
  check_antialias(inputs.antialias, found.get('interpolation', inputs.interpolation), '--')
  flags = ', '.join(f'--{key}' for key in found)
  source = f'{inputs.source}, but for {flags}' if inputs.source else f'{flags} says'
  return replace(inputs, **found, source=source)

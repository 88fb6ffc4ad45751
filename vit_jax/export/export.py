"""`export`: a model for its users, in the formats of `FORMATS`, each read back and compared."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import deserialize

from vit_jax import weights
from vit_jax.data.augment import normalize
from vit_jax.errors import RunFault, UserError, nearest
from vit_jax.export import card, onnx, stablehlo
from vit_jax.layouts import write_folder
from vit_jax.models import Inputs
from vit_jax.run import Run
from vit_jax.weights import Opened
from vit_jax.weights.sources import locate
from vit_jax.writes import write

FORMATS = {
  'hf': 'a folder of transformers',
  'timm': 'a folder of timm',
  'onnx': 'model.onnx',
  'stablehlo': 'programs of jax.export',
}
TOLERANCE = 1e-4  # of the largest output, or of 1


def export(
  source: str,
  folder: Path,
  formats: Sequence[str] = (),
  *,
  checkpoint: str = 'last',
  data_dir: Path | None = None,
  **keys: Any,
) -> Iterator[str]:
  """Writes `folder`/FORMAT for each format; yields a line on each.

  Args:
    source, checkpoint, data_dir, keys: as `weights.open` takes them.
    formats: of `FORMATS`; by default all that have such a model and whose packages are here.

  Raises:
    UserError: there are no such weights, a format that was asked for does not have the model or
      needs a package, or a file cannot be written.
    RunFault: what was read back gives other numbers.
  """
  if strange := [name for name in formats if name not in FORMATS]:
    raise UserError(f'--formats: {strange[0]!r} is unknown; {nearest(strange[0], FORMATS)}')
  opened = weights.open(source, checkpoint=checkpoint, data_dir=data_dir, **keys)
  yield opened.line
  opened = replace(opened, model=_plain(opened.model))
  known, expected = _facts(source, checkpoint), _Expected(opened)
  left = []
  for name in formats or FORMATS:
    place = folder / name
    try:
      found, by = _write(name, place, opened, expected)
    except UserError as error:
      if formats:
        raise
      left.append(name)
      yield f'{name}: left out: {error}'
      continue
    write(place / 'README.md', card.card(opened, known, name))
    size = sum(path.stat().st_size for path in place.iterdir())
    words = f'{place}, {size / 1e6:.1f} MB'
    if found is None:
      yield f'{name}: {words}, not compared: {by}'
      continue
    if name == 'timm' and getattr(opened.model.options, 'weight_epsilon', '') == 'std':
      words += '; timm adds its epsilon elsewhere, so that there outputs differ by about 1e-4'
    error = expected.error(found)
    if not error <= TOLERANCE:
      raise RunFault(
        f'{name}: {place} gives outputs that differ by {error:.1e} of the largest; do not use it'
      )
    yield f'{name}: {words}; by {by} outputs of random images agree within {error:.1e}'
  if len(left) == len(FORMATS):
    raise UserError(f'{source} fits none of {", ".join(FORMATS)}')


def _plain(model: Any) -> Any:
  """The same model in float32, by operations that any device has."""
  names = {field.name for field in fields(model.options)}
  ways = {'dtype': 'float32', 'attention': 'xla', 'remat': 'none'}
  return model.clone(
    options=replace(model.options, **{key: ways[key] for key in ways.keys() & names})
  )


def _facts(source: str, checkpoint: str) -> card.Facts:
  place, which = locate(source, checkpoint)
  if not isinstance(place, Path) or not Run(place).exists or not (place / 'checkpoints').is_dir():
    return card.Facts()
  run = Run(place)
  with run.checkpoints() as checkpoints:
    return card.facts(run, checkpoints.pick(which))


class _Expected:
  """What the model gives for a few random images."""

  def __init__(self, opened: Opened):
    inputs = opened.model.inputs
    shape = (3, *inputs.size, len(inputs.mean))
    self.pixels_BHWC = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    self.images_BHWC = np.asarray(normalize(jnp.asarray(self.pixels_BHWC), inputs.mean, inputs.std))
    self.output_BK = self.of(opened.model, opened.variables)

  def of(self, model: Any, variables: Any) -> np.ndarray:
    with jax.default_matmul_precision('float32'):
      output = jax.jit(model.apply, static_argnames='train')(
        variables, self.images_BHWC, train=False
      )
    return np.asarray(output.logits_BK if model.num_classes else output.features_BD)

  def error(self, found_BK: np.ndarray) -> float:
    """The largest difference, as a share of the largest output or of 1."""
    return float(np.abs(found_BK - self.output_BK).max() / max(1.0, np.abs(self.output_BK).max()))


def _write(
  name: str, place: Path, opened: Opened, expected: _Expected
) -> tuple[np.ndarray | None, str]:
  """(outputs of what was read back, by whom), or (None, why not)."""
  model, variables = opened.model, opened.variables
  if name in ('hf', 'timm'):
    write_folder(place, model, variables, name, {'model': opened.name})
    again = weights.open(place)
    return expected.of(again.model, again.variables), 'vit_jax'
  if name == 'stablehlo':
    found = []
    for path, image_BHWC in zip(
      stablehlo.write(place, model, variables),
      (expected.pixels_BHWC, expected.pixels_BHWC.astype(np.float32) / 255),
      strict=True,
    ):
      with jax.default_matmul_precision('float32'):
        program = deserialize(bytearray(path.read_bytes()))
        found.append(np.asarray(program.call(image_BHWC)))
    return max(found, key=expected.error), 'jax.export'
  path = place / 'model.onnx'
  onnx.write(path, model, variables, _metadata(opened.model.inputs))
  try:
    import onnxruntime  # here: it is in the extra `onnx`
  except ImportError:
    return None, "onnxruntime is missing: pip install 'vit-jax[onnx]'"
  session = onnxruntime.InferenceSession(path)
  image_BCHW = expected.images_BHWC.transpose(0, 3, 1, 2)
  return np.asarray(session.run(None, {onnx.INPUT: image_BCHW})[0]), 'onnxruntime'


def _metadata(inputs: Inputs) -> dict[str, Any]:
  """How images are seen, and the classes."""
  names = ('size', 'mean', 'std', 'crop', 'interpolation', 'aspect', 'antialias', 'class_names')
  return {name: getattr(inputs, name) for name in names}

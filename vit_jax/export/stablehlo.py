"""A model as StableHLO: programs that hold their weights and normalize the pixels themselves."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.export import export, symbolic_shape

from vit_jax.data.augment import normalize
from vit_jax.errors import writing
from vit_jax.writes import write as write_whole

PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')
DTYPES = {'uint8': jnp.uint8, 'float32': jnp.float32}


def write(folder: Path, model: Any, variables: Any) -> list[Path]:
  """Writes uint8.bin and float32.bin, which `jax.export.deserialize` reads.

  They take images (batch, H, W, C) of any batch: pixels of 0 to 255, or floats of 0 to 1. They give
  logits (batch, K), or features (batch, D) of a model without a head.

  Raises:
    UserError: a file cannot be written.
  """
  inputs, paths = model.inputs, []
  (batch,) = symbolic_shape('batch')
  for name, dtype in DTYPES.items():

    def forward(image_BHWC: jax.Array, scale: float = 1 if name == 'uint8' else 255) -> jax.Array:
      image_BHWC = normalize(image_BHWC * scale, inputs.mean, inputs.std)
      output = model.apply(variables, image_BHWC, train=False)
      return output.logits_BK if model.num_classes else output.features_BD

    shape = jax.ShapeDtypeStruct((batch, *inputs.size, len(inputs.mean)), dtype)
    program = export(jax.jit(forward), platforms=PLATFORMS)(shape)
    path = folder / f'{name}.bin'
    with writing(path):
      folder.mkdir(parents=True, exist_ok=True)
      write_whole(path, program.serialize())
    paths.append(path)
  return paths

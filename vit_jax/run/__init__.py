"""The run folder: what a run leaves, and its one reader and writer."""

from vit_jax.run.checkpoint import Damaged
from vit_jax.run.checkpoint_writer import CheckpointWriter
from vit_jax.run.files import write_json
from vit_jax.run.folder import Run
from vit_jax.run.identity import FREE_TO_CHANGE, Identity, agree, differences, versions
from vit_jax.run.lock import Lock
from vit_jax.run.predictions import Predictions, Raster
from vit_jax.run.uploads import Uploads

__all__ = [
  'FREE_TO_CHANGE',
  'CheckpointWriter',
  'Damaged',
  'Identity',
  'Lock',
  'Predictions',
  'Raster',
  'Run',
  'Uploads',
  'agree',
  'differences',
  'versions',
  'write_json',
]

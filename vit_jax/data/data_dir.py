"""Where prepared data sets are stored."""

import os
from pathlib import Path

DATA_DIR_VARIABLE = 'VIT_JAX_DATA_DIR'


def default_data_dir() -> Path:
  """The environment variable VIT_JAX_DATA_DIR, else ~/.cache/vit_jax."""
  return Path(os.environ.get(DATA_DIR_VARIABLE) or '~/.cache/vit_jax').expanduser()

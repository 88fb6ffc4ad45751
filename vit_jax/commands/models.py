"""`vit_jax models`."""

from vit_jax import models
from vit_jax.commands import flags
from vit_jax.tables import as_text


def main(argv: list[str]) -> int:
  flags.parser('models').parse_args(argv)
  print(as_text(('model', 'family'), list(models.all_names().items())))
  return 0

"""`vit_jax recipes`."""

from vit_jax.commands import flags
from vit_jax.config import recipes
from vit_jax.tables import as_text


def main(argv: list[str]) -> int:
  flags.parser('recipes').parse_args(argv)
  print(as_text(('recipe', 'about'), list(recipes.shipped().items())))
  return 0

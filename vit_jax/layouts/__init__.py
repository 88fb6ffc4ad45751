"""Files of weights and the tables of published names, read and written in both directions."""

from vit_jax.layouts.export import TRAITS, traits, write, write_folder

__all__ = ['TRAITS', 'traits', 'write', 'write_folder']

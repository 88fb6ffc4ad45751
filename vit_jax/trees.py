"""Names of the leaves of a tree: the keys down to them joined by '/'."""

from collections.abc import Mapping
from typing import Any

import jax


def path_name(path: tuple) -> str:
  """'params/head/kernel' for a key path of `jax.tree_util`."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def flatten(tree: Any) -> dict[str, Any]:
  """Leaves by name."""
  return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def flatten_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
  """Leaves by name; those of 'params' without it, others below their collection's name."""
  params = flatten(variables['params'])
  return params | flatten({name: tree for name, tree in variables.items() if name != 'params'})


def unflatten_variables(flat: Mapping[str, Any]) -> dict[str, Any]:
  """The collections of `flatten_variables`."""
  tree: dict[str, Any] = {'params': {}}
  for name, leaf in flat.items():
    inside = '' if name.startswith('batch_stats/') else 'params/'
    *above, last = f'{inside}{name}'.split('/')
    node = tree
    for key in above:
      node = node.setdefault(key, {})
    node[last] = leaf
  return tree

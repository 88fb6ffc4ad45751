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


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Nested dictionaries of leaves by name."""
  tree: dict[str, Any] = {}
  for name, leaf in flat.items():
    *above, last = name.split('/')
    node = tree
    for key in above:
      node = node.setdefault(key, {})
    node[last] = leaf
  return tree


def flatten_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
  """Leaves of a model: those of its parameters by bare names, others below their collection's."""
  params = flatten(variables['params'])
  return params | flatten({name: tree for name, tree in variables.items() if name != 'params'})


def unflatten_variables(flat: Mapping[str, Any]) -> dict[str, Any]:
  """The collections of `flatten_variables`."""
  inside = {name: leaf for name, leaf in flat.items() if name.startswith('batch_stats/')}
  params = {name: leaf for name, leaf in flat.items() if name not in inside}
  return {'params': unflatten(params)} | unflatten(inside)

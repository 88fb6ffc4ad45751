"""vit_jax: Vision Transformers in JAX, from one laptop command to accelerator pods.

The library; each name is imported when it is first used:

    build      the model of a name, such as 'B/16'
    load       (model, variables) from a run folder, a file, hf://org/name, augreg:B/16
    predict    logits and features of images
    recipe     a resolved recipe, from a file or a name such as 'deit:B/16'
    Trainer    what a recipe trains: state, batches, step
    Run        a run folder

The dimension legend. Array names end in their shape, and einsum letters reuse it:

    B batch    H W C image    N tokens    D width    A heads    E head dim
    F mlp      L layers       K classes   P patch    S T source and target length    V vocabulary

A digit stands for itself: `qkv_BN3AE`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from vit_jax.config import recipe
  from vit_jax.evaluate.predict import predict
  from vit_jax.models import build
  from vit_jax.run import Run
  from vit_jax.train.trainer import Trainer
  from vit_jax.weights import load

__version__ = '0.1.0'
__all__ = ['Run', 'Trainer', 'build', 'load', 'predict', 'recipe']

# A recipe needs no JAX, and a model no data: importing all of it would take seconds.
_ROOMS = {
  'Run': 'vit_jax.run',
  'Trainer': 'vit_jax.train.trainer',
  'build': 'vit_jax.models',
  'load': 'vit_jax.weights',
  'predict': 'vit_jax.evaluate.predict',
  'recipe': 'vit_jax.config',
}


def __getattr__(name: str) -> Any:
  if name not in _ROOMS:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})

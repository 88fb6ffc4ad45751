"""What the fixtures of optimizers are made of: a small network, its batches, and cases.

The network has the names and stored shapes of a ViT's parameters, stacked over two layers, and is
written once for NumPy-like packages: L layers, D width, A heads of E, F hidden units, I inputs, K
classes.
"""

from typing import Any, NamedTuple

import numpy as np

STEPS, BATCH, LAYERS, INPUTS, CLASSES = 20, 16, 2, 6, 5
CLASS_WEIGHTS = (0.5, 1.25, 1.0, 0.25, 1.5)


class Case(NamedTuple):
  """Keys of config.optim and config.loss, and (D, A, F)."""

  optim: dict[str, Any]
  loss: dict[str, Any] = {}
  size: tuple[int, int, int] = (8, 2, 12)


ADAMW = dict(name='adamw', lr=1e-3, weight_decay=0.5, schedule='constant')
SGD = dict(name='sgd', lr=0.05, weight_decay=0.1, schedule='constant')
LAMB = dict(name='lamb', lr=5e-3, weight_decay=0.05, schedule='constant', eps=1e-6, clip_norm=1.0)
MUON = dict(name='muon', lr=2e-3, weight_decay=0.5, schedule='constant', momentum=0.95)
WIDE = (32, 4, 40)
GROUPS = {
  'head': dict(match='^head/', lr=0.5, weight_decay=3.0),
  'all_mlp': dict(match='mlp/.*kernel$', weight_decay=0.5),
  'up': dict(match='mlp/up', lr=2.0),
  'embedding': dict(match='^(embedding/|cls$)', freeze=True),
}
CASES = {
  'adamw_warmup': Case(
    ADAMW
    | dict(schedule='cosine', warmup=dict(steps=5), warmup_lr=1e-5, end_lr=1e-4, clip_norm=1.0),
    dict(label_smoothing=0.1),
  ),
  'adamw_ema': Case(ADAMW | dict(ema=0.99996)),
  'adamw_layer_decay': Case(ADAMW | dict(layer_decay=0.65)),
  'adamw_groups': Case(ADAMW | dict(groups=GROUPS)),
  'adamw_bce': Case(ADAMW | dict(clip_norm=0.05), dict(name='bce')),
  'adamw_bce_weighted': Case(ADAMW, dict(name='bce', class_weights=CLASS_WEIGHTS)),
  'adamw_sigmoid': Case(ADAMW | dict(lr=3e-4), dict(name='sigmoid', class_weights=CLASS_WEIGHTS)),
  'adamw_weighted': Case(ADAMW, dict(class_weights=CLASS_WEIGHTS)),
  'adamw_soft': Case(ADAMW, dict(distill=dict(kind='soft', alpha=0.4, tau=3.0))),
  'adamw_soft_mean': Case(ADAMW, dict(distill=dict(kind='soft_mean', alpha=0.4, tau=3.0))),
  'sgd_nesterov': Case(SGD | dict(nesterov=True, weight_decay=0.0)),
  'sgd_coupled': Case(SGD | dict(nesterov=True, decay='coupled')),
  'sgd_agc': Case(SGD | dict(clip_agc=0.01, weight_decay=0.0)),
  'lamb': Case(LAMB),
  'lamb_bce': Case(LAMB | dict(clip_norm=0.05), dict(name='bce')),
  'lion': Case(dict(name='lion', lr=1e-3, b2=0.99, weight_decay=0.5, schedule='constant')),
  'muon': Case(MUON),
  'muon_nesterov': Case(MUON | dict(nesterov=True)),
  'bv_adam': Case(ADAMW | dict(mu_dtype='bfloat16', clip_norm=1.0)),
  'bv_adafactor': Case(
    dict(
      name='adafactor',
      lr=1e-3,
      weight_decay=0.5,
      clip_norm=1.0,
      mu_dtype='bfloat16',
      schedule='cosine',
      warmup=dict(steps=4),
    ),
    size=WIDE,
  ),
}


def gradients(size: tuple[int, int, int]) -> list[dict[str, np.ndarray]]:
  """Made-up gradients of each step, for cases with moments in bfloat16.

  Those of a loss would hang on the last bit of a moment: one that is rounded the other way moves
  all that follows.
  """
  return [params_of(size, seed=2 + step) for step in range(STEPS)]


def params_of(size: tuple[int, int, int], seed: int = 0) -> dict[str, np.ndarray]:
  """The first parameters, by path."""
  width, heads, hidden = size
  rng = np.random.default_rng(seed)

  def normal(*shape: int, scale: float = 0.1) -> np.ndarray:
    return (scale * rng.normal(size=shape)).astype(np.float32)

  blocks, each = 'encoder/blocks', width // heads
  return {
    'cls': normal(1, 1, width),
    'embedding/bias': normal(width),
    'embedding/kernel': normal(1, 2, INPUTS // 2, width, scale=0.5),
    f'{blocks}/attention/out/bias': normal(LAYERS, width),
    f'{blocks}/attention/out/kernel': normal(LAYERS, heads, each, width, scale=0.3),
    f'{blocks}/attention/qkv/bias': normal(LAYERS, 3, width),
    f'{blocks}/attention/qkv/kernel': normal(LAYERS, width, 3, heads, each, scale=0.3),
    f'{blocks}/mlp/down/bias': normal(LAYERS, width),
    f'{blocks}/mlp/down/kernel': normal(LAYERS, hidden, width, scale=0.3),
    f'{blocks}/mlp/up/bias': normal(LAYERS, hidden),
    f'{blocks}/mlp/up/kernel': normal(LAYERS, width, hidden, scale=0.3),
    'encoder/norm/scale': 1 + normal(width),
    'head/bias': normal(CLASSES),
    'head/kernel': normal(width, CLASSES, scale=0.3),
  }


def batches() -> list[dict[str, np.ndarray]]:
  """x (B, I), labels (B, K) of one or two classes, and a teacher's logits (B, K), of each step."""
  rng = np.random.default_rng(1)
  found = []
  for _ in range(STEPS):
    share = rng.choice([1.0, 0.7], (BATCH, 1))
    first, second = np.eye(CLASSES)[rng.integers(0, CLASSES, (2, BATCH))]
    found.append(
      {
        'x': rng.normal(size=(BATCH, INPUTS)).astype(np.float32),
        'soft_label': (share * first + (1 - share) * second).astype(np.float32),
        'teacher': (2 * rng.normal(size=(BATCH, CLASSES))).astype(np.float32),
      }
    )
  return found


def logits(params: dict[str, Any], x: Any, tanh: Any) -> Any:
  """(B, K) of arrays of any package, in the order and shapes of `params_of`."""
  width = params['cls'].shape[-1]
  x = x @ params['embedding/kernel'].reshape(INPUTS, width)
  x = x + params['embedding/bias'] + params['cls'][0]
  for i in range(LAYERS):

    def layer(name: str, i: int = i) -> Any:
      return params[f'encoder/blocks/{name}'][i]

    qkv = x @ layer('attention/qkv/kernel').reshape(width, 3 * width)
    qkv = qkv + layer('attention/qkv/bias').reshape(3 * width)
    query, key, value = (qkv[:, j * width : (j + 1) * width] for j in range(3))
    mixed = tanh(query) * key + value
    x = x + mixed @ layer('attention/out/kernel').reshape(width, width)
    x = x + layer('attention/out/bias')
    hidden = tanh(x @ layer('mlp/up/kernel') + layer('mlp/up/bias'))
    x = x + hidden @ layer('mlp/down/kernel') + layer('mlp/down/bias')
  x = tanh(x * params['encoder/norm/scale'])
  return x @ params['head/kernel'] + params['head/bias']

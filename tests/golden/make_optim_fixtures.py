"""Writes optim.npz: losses and parameters of 20 steps of PyTorch's, timm's and big_vision's code.

Needs torch, timm, optax, and google-research/big_vision; run at the root of the repository:
    PYTHONPATH=.:BIG_VISION python -m tests.golden.make_optim_fixtures
Of big_vision it runs `optax.make` and `utils.create_learning_rate_schedule`; modules that these do
not need and that are missing are replaced. The network is that of `optim_cases.py`.
"""

import functools
import importlib
import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from timm.optim import Lamb, Lion
from timm.optim import muon as timm_muon
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV2, agc
from torch.nn import functional as F

from tests.golden.optim_cases import (
  BATCH,
  CASES,
  LAYERS,
  STEPS,
  Case,
  batches,
  gradients,
  logits,
  params_of,
)

OUT = Path(__file__).parent / 'optim.npz'


def to_torch(params: dict[str, np.ndarray], split: bool) -> dict[str, torch.Tensor]:
  """One tensor per layer, matrices as (out, in); with `split`, query, key and value apart."""
  found = {}
  for name, value in params.items():
    layers = value if 'blocks/' in name else value[None]
    for i, one in enumerate(layers):
      key = f'{name}#{i}'
      if name.endswith('qkv/kernel'):
        one = one.reshape(one.shape[0], 3, -1).transpose(1, 2, 0)  # 3 out in
        if split:
          found |= {f'{key}#{j}': one[j] for j in range(3)}
          continue
        one = one.reshape(-1, one.shape[-1])
      elif name.endswith(('out/kernel', 'embedding/kernel')):
        one = one.reshape(-1, one.shape[-1]).T
      elif name.endswith('kernel'):
        one = one.T
      elif name.endswith('qkv/bias'):
        one = one.reshape(-1)
      found[key] = one
  return {name: torch.tensor(np.ascontiguousarray(value)) for name, value in found.items()}


def from_torch(tensors: dict[str, Any], shapes: dict[str, np.ndarray]) -> dict[str, Any]:
  """The tree of `params_of`, of tensors that are functions of those given."""
  found = {}
  for name, like in shapes.items():
    stacked = 'blocks/' in name
    ones = []
    for i in range(LAYERS if stacked else 1):
      key = f'{name}#{i}'
      if f'{key}#0' in tensors:
        one = torch.cat([tensors[f'{key}#{j}'] for j in range(3)])
      else:
        one = tensors[key]
      if name.endswith('kernel'):
        one = one.T
      ones.append(one.reshape(like.shape[1:] if stacked else like.shape))
    found[name] = torch.stack(ones) if stacked else ones[0]
  return found


def loss_of(case: Case, out: torch.Tensor, batch: dict[str, np.ndarray]) -> torch.Tensor:
  """As facebookresearch/deit's `engine.py` and `losses.py`, and big_vision's sigmoid_xent."""
  label, teacher = (torch.tensor(batch[name]) for name in ('soft_label', 'teacher'))
  options = case.loss
  weight = torch.tensor(options['class_weights']) if 'class_weights' in options else None
  name = options.get('name', 'softmax')
  if name == 'bce':
    return torch.nn.BCEWithLogitsLoss(weight)(out, label.gt(0.0).to(label.dtype))
  if name == 'sigmoid':
    loss = F.binary_cross_entropy_with_logits(out, label, weight, reduction='none')
    return loss.sum(1).mean()
  smoothing = options.get('label_smoothing', 0.0)
  loss = F.cross_entropy(out, label, weight, label_smoothing=smoothing)
  if 'distill' in options:
    alpha, tau = (options['distill'][name] for name in ('alpha', 'tau'))
    log_p, log_q = (F.log_softmax(x / tau, dim=1) for x in (teacher, out))
    divided = out.numel() if options['distill']['kind'] == 'soft_mean' else BATCH
    distilled = F.kl_div(log_q, log_p, reduction='sum', log_target=True) * tau**2 / divided
    loss = loss * (1 - alpha) + distilled * alpha
  return loss


def beit_layer(name: str) -> int:
  """`get_num_layer_for_vit` of BEiT's optim_factory.py, for the names here."""
  if name.startswith(('cls', 'pos_embed', 'embedding')):
    return 0
  if 'blocks/' in name:
    return int(name.split('#')[1]) + 1
  return LAYERS + 1


def groups_of(case: Case, tensors: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
  optim, groups = case.optim, []
  for name, tensor in tensors.items():
    lr, decay = optim['lr'], optim['weight_decay'] if 'kernel' in name else 0.0
    lr *= optim.get('layer_decay', 1.0) ** (LAYERS + 1 - beit_layer(name))
    for group in optim.get('groups', {}).values():
      if re.search(group['match'], name.split('#')[0]):
        lr, decay = lr * group.get('lr', 1.0), decay * group.get('weight_decay', 1.0)
        tensor.requires_grad_(not group.get('freeze', False) and tensor.requires_grad)
    if tensor.requires_grad:
      groups.append({'params': [tensor], 'lr': lr, 'weight_decay': decay, 'name': name})
  return groups


def optimizers_of(case: Case, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
  optim = case.optim
  if optim['name'] == 'adamw':
    return [torch.optim.AdamW(groups, eps=1e-8)]
  if optim['name'] == 'sgd':
    return [torch.optim.SGD(groups, momentum=0.9, nesterov=optim.get('nesterov', False))]
  if optim['name'] == 'lamb':
    return [Lamb(groups, max_grad_norm=optim['clip_norm'], eps=optim['eps'])]
  if optim['name'] == 'lion':
    return [Lion(groups, betas=(0.9, optim['b2']))]
  hidden = [g for g in groups if 'blocks' in g['name'] and 'kernel' in g['name']]
  others = [g for g in groups if not ('blocks' in g['name'] and 'kernel' in g['name'])]
  muon = timm_muon.Muon(
    hidden,
    momentum=optim['momentum'],
    nesterov=optim.get('nesterov', False),
    adjust_lr_fn='match_rms_adamw',
    ns_coefficients='original',
    ns_steps=5,
    eps=1e-8,
  )
  return [muon, torch.optim.AdamW(others, eps=1e-8)]


def rate(case: Case, step: int) -> float:
  """Linear warm-up and cosine of `adamw_warmup`, written out."""
  optim = case.optim
  if optim['schedule'] == 'constant':
    return optim['lr']
  warmup = optim['warmup']['steps']
  if step < warmup:
    return optim['warmup_lr'] + (optim['lr'] - optim['warmup_lr']) * step / warmup
  progress = (step - warmup) / (STEPS - warmup)
  span = optim['lr'] - optim['end_lr']
  return optim['end_lr'] + span * 0.5 * (1 + np.cos(np.pi * progress))


def run_torch(case: Case) -> dict[str, np.ndarray]:
  shapes = params_of(case.size)
  tensors = to_torch(shapes, split=case.optim['name'] == 'muon')
  module = torch.nn.ParameterDict({name.replace('.', '_'): t for name, t in tensors.items()})
  tensors = dict(module.items())
  groups = groups_of(case, tensors)
  optimizers = optimizers_of(case, groups)
  ema = ModelEmaV2(module, decay=case.optim['ema']) if 'ema' in case.optim else None
  if ema is not None:
    ema.module.double()  # float32 rounds a step of 1 - 0.99996 to a third of it
  losses = []
  for step, batch in enumerate(batches()):
    out = logits(from_torch(tensors, shapes), torch.tensor(batch['x']), torch.tanh)
    loss = loss_of(case, out, batch)
    for optimizer in optimizers:
      optimizer.zero_grad()
      for group in optimizer.param_groups:
        if case.optim['schedule'] != 'constant':
          group['lr'] = rate(case, step)
    loss.backward()
    if 'clip_agc' in case.optim:
      clipped = [t for name, t in tensors.items() if not name.startswith('head')]
      agc.adaptive_clip_grad(clipped, clip_factor=case.optim['clip_agc'])
    if 'clip_norm' in case.optim and case.optim['name'] != 'lamb':
      torch.nn.utils.clip_grad_norm_(tensors.values(), case.optim['clip_norm'])
    for optimizer in optimizers:
      optimizer.step()
    if ema is not None:
      ema.update(module)
    losses.append(loss.item())
  found = {'loss': np.array(losses, np.float64)} | flat('params', from_torch(tensors, shapes))
  if ema is not None:
    found |= flat('ema', from_torch(dict(ema.module.items()), shapes))
  return found


def flat(name: str, tree: dict[str, Any]) -> dict[str, np.ndarray]:
  leaves = [np.asarray(tree[key].detach() if torch.is_tensor(tree[key]) else tree[key])
            for key in sorted(tree)]  # fmt: skip
  return {name: np.concatenate([leaf.ravel() for leaf in leaves]).astype(np.float32)}


def big_vision() -> tuple[Any, Any]:
  """(its optax.py, its utils.py)."""
  for name in (
    'absl', 'big_vision.pp', 'big_vision.pp.registry', 'einops', 'flax.jax_utils',
    'ml_collections', 'tensorflow', 'tensorflow.io', 'tensorflow.io.gfile',
  ):  # fmt: skip
    try:
      importlib.import_module(name)
    except ImportError:
      sys.modules[name] = mock.MagicMock()
  return importlib.import_module('big_vision.optax'), importlib.import_module('big_vision.utils')


class Config(dict):
  """As much of a ConfigDict as big_vision's `optax.make` reads."""

  __getattr__ = dict.__getitem__


def run_big_vision(case: Case) -> dict[str, np.ndarray]:
  """Layers apart, and query, key and value too, of shape (D, A, E), as in its ViT."""
  import jax
  import jax.numpy as jnp
  import optax

  bv_optax, _ = big_vision()
  shapes, optim = params_of(case.size), case.optim

  def theirs(tree: dict[str, np.ndarray]) -> dict[str, Any]:
    found = {}
    for name, value in tree.items():
      for i, one in enumerate(value if 'blocks/' in name else value[None]):
        name_i = name.replace('blocks/', f'blocks_{i}/')
        if '/qkv/' in name_i:
          axis = 1 if name.endswith('kernel') else 0
          for j, part in enumerate(('query', 'key', 'value')):
            found[name_i.replace('/qkv/', f'/{part}/')] = jnp.asarray(one.take(j, axis))
        else:
          found[name_i] = jnp.asarray(one)
    return found

  def ours(params: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, like in shapes.items():
      if 'blocks/' not in name:
        found[name] = params[name]
        continue
      ones = []
      for i in range(LAYERS):
        name_i = name.replace('blocks/', f'blocks_{i}/')
        if '/qkv/' in name:
          parts = [params[name_i.replace('/qkv/', f'/{p}/')] for p in ('query', 'key', 'value')]
          ones.append(jnp.stack(parts, axis=1 if name.endswith('kernel') else 0))
        else:
          ones.append(params[name_i])
      found[name] = jnp.stack(ones).reshape(like.shape)
    return found

  def loss_fn(params: dict[str, Any], batch: dict[str, Any]) -> Any:
    logp = jax.nn.log_softmax(logits(ours(params), batch['x'], jnp.tanh))
    return -jnp.mean(jnp.sum(batch['soft_label'] * logp, axis=-1))

  # Its weight decay is not times lr.
  params = theirs(shapes)
  config = Config(
    lr=optim['lr'], wd=optim['weight_decay'] * optim['lr'], grad_clip_norm=optim['clip_norm']
  )
  if optim['name'] == 'adafactor':
    config |= dict(optax_name='big_vision.scale_by_adafactor')
    config |= dict(schedule=dict(decay_type='cosine', warmup_steps=optim['warmup']['steps']))
  else:
    config |= dict(optax_name='scale_by_adam', optax=dict(mu_dtype='bfloat16'))
    config |= dict(schedule=dict(decay_type='linear', linear_end=1.0))
  tx, _ = bv_optax.make(Config(config), params, sched_kw=dict(total_steps=STEPS))
  state, losses = tx.init(params), []
  update = jax.jit(tx.update)  # as it trains: bfloat16 is rounded elsewhere outside of jit
  for batch, grads in zip(batches(), gradients(case.size), strict=True):
    loss = loss_fn(params, batch)
    updates, state = update(theirs(grads), state, params)
    params = optax.apply_updates(params, updates)
    losses.append(float(loss))
  return {'loss': np.array(losses)} | flat('params', ours(params))


def schedules() -> dict[str, np.ndarray]:
  """Rates by epoch of timm, by step of big_vision; test_schedules.py has the keys of each."""
  optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
  timm = CosineLRScheduler(optimizer, t_initial=30, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
  _, utils = big_vision()
  make = functools.partial(utils.create_learning_rate_schedule, 200, base=0.1)
  made = {
    'cosine': make(decay_type='cosine', warmup_steps=20),
    'linear': make(decay_type='linear', warmup_steps=20, linear_end=1e-5),
    'rsqrt': make(decay_type='rsqrt', warmup_steps=20, timescale=50, cooldown_steps=40),
  }
  found = {f'big_vision_{name}': np.array([f(s) for s in range(200)]) for name, f in made.items()}
  return found | {'timm_cosine': np.array([timm._get_lr(e)[0] for e in range(30)])}


if __name__ == '__main__':
  # In float32, as ours; theirs is in bfloat16.
  timm_muon.zeropower_via_newtonschulz = functools.partial(
    timm_muon.zeropower_via_newtonschulz, dtype=torch.float32
  )
  arrays = {f'schedule/{name}': value for name, value in schedules().items()}
  for name, case in CASES.items():
    made = (run_big_vision if name.startswith('bv_') else run_torch)(case)
    arrays |= {f'{name}/{key}': value for key, value in made.items()}
    print(name, made['loss'][[0, 1, -1]])
  np.savez_compressed(OUT, **arrays)
  print(f'{OUT}: {OUT.stat().st_size:,} bytes')

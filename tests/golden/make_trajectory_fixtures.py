"""Writes trajectories.npz: losses of 10 training steps of timm's small models, and how they end.

Needs torch and timm; run at the root of the repository:
    python -m tests.golden.make_trajectory_fixtures
"""

import sys
from typing import Any

import numpy as np
import torch
from timm.optim import Lamb
from timm.utils import ModelEmaV2
from torch.nn import functional as F

from tests.golden.trajectory_cases import CASES, Case, batches
from tests.weights import timm_models
from tests.weights.golden_models import FOLDER, GOLDEN

OUT = FOLDER / 'trajectories.npz'


def optimizer_of(case: Case, model: Any) -> torch.optim.Optimizer:
  """Matrices and convolutions decay; biases, norms, LayerScales, tokens and positions do not."""
  optim = case.optim
  groups = [
    {'params': [p], 'weight_decay': optim['weight_decay'] if p.ndim in (2, 4) else 0.0}
    for p in model.parameters()
  ]
  if optim['name'] == 'adamw':
    return torch.optim.AdamW(groups, lr=optim['lr'])
  if optim['name'] == 'lamb':
    return Lamb(groups, lr=optim['lr'], eps=optim['eps'], max_grad_norm=optim['clip_norm'])
  nesterov = optim.get('nesterov', False)
  return torch.optim.SGD(groups, lr=optim['lr'], momentum=0.9, nesterov=nesterov)


def loss_of(case: Case, output: Any, batch: dict[str, np.ndarray]) -> torch.Tensor:
  """As facebookresearch/deit's `engine.py` and `losses.py`."""
  label = torch.tensor(batch['soft_label'])
  if case.loss.get('name') == 'bce':
    return F.binary_cross_entropy_with_logits(output, label.gt(0.0).to(label.dtype))
  smoothing = case.loss.get('label_smoothing', 0.0)
  if 'distill' not in case.loss:
    return F.cross_entropy(output, label, label_smoothing=smoothing)
  logits, distilled = output
  alpha, teacher = case.loss['distill']['alpha'], torch.tensor(batch['teacher'])
  base = F.cross_entropy(logits, label, label_smoothing=smoothing)
  return base * (1 - alpha) + F.cross_entropy(distilled, teacher.argmax(dim=1)) * alpha


def make(family: str) -> dict[str, np.ndarray]:
  golden, case = GOLDEN[family], CASES[family]
  model = timm_models.timm_model(golden.theirs, **golden.their_options)
  weights = np.load(FOLDER / f'timm_{family}.npz')
  model.load_state_dict(
    {
      name: torch.tensor(np.asarray(weights[f'weights/{name}'], value.numpy().dtype))
      for name, value in model.state_dict().items()
    }
  )
  model.train()
  if 'distill' in case.loss:
    model.set_distilled_training(True)
  optimizer = optimizer_of(case, model)
  ema = ModelEmaV2(model, decay=case.optim['ema']) if 'ema' in case.optim else None
  losses, batch = [], {}
  for batch in batches(golden.size):
    images = torch.from_numpy(batch['image'].transpose(0, 3, 1, 2).copy())
    loss = loss_of(case, model(images), batch)
    optimizer.zero_grad()
    loss.backward()
    if 'clip_norm' in case.optim and case.optim['name'] != 'lamb':
      torch.nn.utils.clip_grad_norm_(model.parameters(), case.optim['clip_norm'])
    optimizer.step()
    if ema is not None:
      ema.update(model)
    losses.append(loss.item())
  # Of the last batch, with the weights at the end: running statistics of a BatchNorm show here.
  last = (ema.module if ema is not None else model).eval()
  return {
    f'{family}/loss': np.array(losses),
    f'{family}/output': timm_models.output_of(last, batch['image']),
  }


if __name__ == '__main__':
  arrays = {}
  for family in sys.argv[1:] or CASES:
    arrays |= make(family)
    print(family, arrays[f'{family}/loss'])
  np.savez_compressed(OUT, **arrays)
  print(f'{OUT}: {OUT.stat().st_size:,} bytes')

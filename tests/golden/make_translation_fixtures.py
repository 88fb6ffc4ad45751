"""Writes translation_NAME.npz: small models of PyTorch and transformers with random weights.

Run at the root of the repository, for all names or those given; needs torch and transformers:
    python -m tests.golden.make_translation_fixtures [NAME ...]
Weights are rounded to float16, as which they are stored, before the outputs are computed. Outputs
are float32; those of padded tokens mean nothing.

    gru, lstm          a layer in one direction over vectors (`one/`); and an encoder-decoder
                       without attention: a bidirectional encoder and a decoder of two layers each
    transformer_post   nn.TransformerEncoder and nn.TransformerDecoder, without final norms
    transformer_pre    the same with norm_first=True and final norms
    marian             a MarianMTModel with one table for everything, and its attention weights
"""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

FOLDER = Path(__file__).parent
PAD, BEGIN = 0, 1
B, S, T, D, V, L = 3, 7, 6, 16, 24, 2
SOURCES = 20  # tokens of a source vocabulary that is not the target's
EPSILON = 1e-6  # of our LayerNorm
Arrays = dict[str, Any]


def sentences(sources: int) -> tuple[torch.Tensor, torch.Tensor]:
  """(source_BS, target_BT) of unequal lengths, padded at the end."""
  rng = np.random.default_rng(0)
  source_BS, target_BT = rng.integers(4, sources, (B, S)), rng.integers(4, V, (B, T))
  target_BT[:, 0] = BEGIN
  for row, (source, target) in enumerate([(S, 4), (5, T), (2, 3)]):
    source_BS[row, source:] = target_BT[row, target:] = PAD
  return torch.from_numpy(source_BS), torch.from_numpy(target_BT)


def randomize(module: nn.Module, scale: float = 1.0) -> nn.Module:
  """In evaluation mode, with random biases and norms too, as float16 can store them."""
  torch.manual_seed(0)
  for name, value in module.named_parameters():
    if value.ndim > 1:
      nn.init.normal_(value, std=scale * value.shape[1] ** -0.5)
    elif 'norm' in name and name.endswith('weight'):
      nn.init.uniform_(value, 0.5, 1.5)
    else:
      nn.init.normal_(value, std=0.3)
    value.data = value.data.half().float()
  for part in module.modules():
    if isinstance(part, nn.LayerNorm):
      part.eps = EPSILON
  return module.eval()


def positions(length: int) -> torch.Tensor:
  """(T, D): sin(t / 10000^(2 i / D)) in channel i, its cosine in channel D / 2 + i."""
  table = np.zeros((length, D), np.float32)
  for t in range(length):
    for i in range(D // 2):
      angle = t / 10_000 ** (2 * i / D)
      table[t, i], table[t, D // 2 + i] = math.sin(angle), math.cos(angle)
  return torch.from_numpy(table)


class Recurrent(nn.Module):
  """The decoder begins with the states of both directions side by side."""

  def __init__(self, kind: type[nn.Module]):
    super().__init__()
    self.source, self.target = nn.Embedding(SOURCES, D), nn.Embedding(V, D)
    self.encoder = kind(D, D // 2, L, batch_first=True, bidirectional=True)
    self.decoder = kind(D, D, L, batch_first=True)
    self.readout, self.head = nn.Linear(D, D), nn.Linear(D, V)

  def forward(self, source_BS: torch.Tensor, target_BT: torch.Tensor) -> Arrays:
    memory_BSD, last = packed(self.encoder, self.source(source_BS), source_BS != PAD)
    last = tuple(
      torch.cat([x_LBH[0::2], x_LBH[1::2]], dim=-1)
      for x_LBH in (last if isinstance(last, tuple) else (last,))
    )
    first = last if len(last) == 2 else last[0]
    hidden_BTD, _ = self.decoder(self.target(target_BT), first)
    logits_BTV = self.head(self.readout(hidden_BTD))
    states = {f'state_{i}': x_LBD for i, x_LBD in enumerate(last)}
    return {'memory': memory_BSD, 'hidden': hidden_BTD, 'logits': logits_BTV} | states


def packed(layer: nn.Module, x_BSD: torch.Tensor, mask_BS: torch.Tensor) -> Any:
  """(outputs, last states) of a layer that sees no padding."""
  packed = nn.utils.rnn.pack_padded_sequence(
    x_BSD, mask_BS.sum(1), batch_first=True, enforce_sorted=False
  )
  y, last = layer(packed)
  return nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=S)[0], last


class Transformer(nn.Module):
  """Embeddings times sqrt(D) plus positions; the output layer is `head`, or the target's table."""

  def __init__(self, pre: bool):
    super().__init__()
    options = dict(
      d_model=D, nhead=2, dim_feedforward=2 * D, dropout=0.0, batch_first=True, norm_first=pre
    )
    self.source, self.target = nn.Embedding(SOURCES, D), nn.Embedding(V, D)
    self.encoder = nn.TransformerEncoder(
      nn.TransformerEncoderLayer(**options),
      L,
      nn.LayerNorm(D) if pre else None,
      enable_nested_tensor=False,
    )
    self.decoder = nn.TransformerDecoder(
      nn.TransformerDecoderLayer(**options), L, nn.LayerNorm(D) if pre else None
    )
    if not pre:
      self.head = nn.Linear(D, V)

  def forward(self, source_BS: torch.Tensor, target_BT: torch.Tensor) -> Arrays:
    source_BSD = self.source(source_BS) * math.sqrt(D) + positions(S)
    target_BTD = self.target(target_BT) * math.sqrt(D) + positions(T)
    memory_BSD = self.encoder(source_BSD, src_key_padding_mask=source_BS == PAD)
    hidden_BTD = self.decoder(
      target_BTD,
      memory_BSD,
      tgt_mask=torch.triu(torch.ones(T, T, dtype=torch.bool), 1),  # True is hidden
      tgt_key_padding_mask=target_BT == PAD,
      memory_key_padding_mask=source_BS == PAD,
    )
    head = getattr(self, 'head', None)
    logits_BTV = head(hidden_BTD) if head else hidden_BTD @ self.target.weight.T
    return {'memory': memory_BSD, 'hidden': hidden_BTD, 'logits': logits_BTV}


def of_recurrent(kind: type[nn.Module]) -> Arrays:
  # Of a scale at which a state depends on words that are far away.
  one, model = (
    randomize(module, 2.0) for module in (kind(D, D // 2, batch_first=True), Recurrent(kind))
  )
  source_BS, target_BT = sentences(SOURCES)
  x_BSD = torch.randn((B, S, D), generator=torch.Generator().manual_seed(1))
  outputs_BSH, last = packed(one, x_BSD, source_BS != PAD)
  states = {f'one/state_{i}': x_1BH for i, x_1BH in enumerate(last if len(last) == 2 else [last])}
  return (
    {'source': source_BS, 'target': target_BT, 'one/input': x_BSD, 'one/output': outputs_BSH}
    | states
    | weights(one, 'one/weights/')
    | model(source_BS, target_BT)
    | weights(model)
  )


def of_transformer(pre: bool) -> Arrays:
  model = randomize(Transformer(pre))
  source_BS, target_BT = sentences(SOURCES)
  outputs = model(source_BS, target_BT)
  return {'source': source_BS, 'target': target_BT} | outputs | weights(model)


def of_marian() -> Arrays:
  from transformers import MarianConfig, MarianMTModel

  sizes = {
    f'{side}_{name}': value
    for side in ('encoder', 'decoder')
    for name, value in dict(layers=L, attention_heads=2, ffn_dim=2 * D).items()
  }
  config = MarianConfig(
    vocab_size=V,
    d_model=D,
    **sizes,
    activation_function='relu',
    dropout=0.0,
    scale_embedding=True,
    max_position_embeddings=16,
    pad_token_id=PAD,
    decoder_start_token_id=BEGIN,
    eos_token_id=2,
    forced_eos_token_id=2,
    attn_implementation='eager',  # which returns its weights
  )
  model = MarianMTModel(config)
  tables = {name: value.clone() for name, value in model.named_parameters() if 'positions' in name}
  randomize(model)
  for name, value in tables.items():
    model.get_parameter(name).data = value  # fixed: they are no weights
  model.final_logits_bias.normal_(0, 0.3)
  model.final_logits_bias.data = model.final_logits_bias.half().float()
  source_BS, target_BT = sentences(V)
  out = model(
    input_ids=source_BS,
    attention_mask=source_BS != PAD,
    decoder_input_ids=target_BT,
    decoder_attention_mask=target_BT != PAD,
    output_attentions=True,
    output_hidden_states=True,
    use_cache=False,
  )
  stored = weights(model, 'weights/', ('embed_tokens', 'embed_positions', 'lm_head'))
  return {
    'source': source_BS,
    'target': target_BT,
    'memory': out.encoder_last_hidden_state,
    'hidden': out.decoder_hidden_states[-1],
    'logits': out.logits,
    'cross': torch.stack(out.cross_attentions),  # (L, B, A, T, S)
  } | stored


def weights(module: nn.Module, prefix: str = 'weights/', without: tuple[str, ...] = ()) -> Arrays:
  """As float16, which they fit."""
  return {
    prefix + name: value.half()
    for name, value in module.state_dict().items()
    if not any(part in name for part in without)
  }


MAKERS = {
  'gru': lambda: of_recurrent(nn.GRU),
  'lstm': lambda: of_recurrent(nn.LSTM),
  'transformer_post': lambda: of_transformer(pre=False),
  'transformer_pre': lambda: of_transformer(pre=True),
  'marian': of_marian,
}


def make(name: str) -> None:
  with torch.no_grad():
    arrays = {key: value.detach().numpy() for key, value in MAKERS[name]().items()}
  path = FOLDER / f'translation_{name}.npz'
  np.savez(path, **arrays)
  print(f'{path}: {path.stat().st_size:,} bytes')


if __name__ == '__main__':
  for name in sys.argv[1:] or MAKERS:
    make(name)

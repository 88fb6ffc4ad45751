"""All layouts, and which of them a set of names is."""

from collections.abc import Collection, Iterable, Sequence
from functools import partial

from vit_jax.errors import UserError, first_few, nearest
from vit_jax.layouts import google, huggingface, timm
from vit_jax.layouts.layout import Layout, count_known, unnamed

_google = partial(
  Layout,
  prefixes=('', 'params/', 'opt/target/', 'params/img/'),
  resize='bilinear',
  traits={'exact_gelu': False, 'weight_epsilon': 'std'},
  pools=('cls', 'mean'),
  slots='always',
)
_big_vision = partial(
  _google, pools=('cls', 'mean', 'map'), positions=('learned', 'sincos2d'), slots=''
)
_timm = partial(
  Layout,
  traits={'exact_gelu': True, 'weight_epsilon': 'variance'},
  pools=('cls', 'mean', 'map'),
  positions=('learned', 'none'),
  slots='without registers',
  call=timm.create_model,
  config=timm.vit_config,
)
_hf = partial(Layout, resize='bicubic', slots='always', traits={'exact_gelu': True})
# transformers modeling_dinov2_with_registers.py, interpolate_pos_encoding; modeling_dinov2.py is
# without antialias.
_dinov2 = partial(
  _hf,
  prefixes=('', 'dinov2.', 'dinov2_with_registers.'),
  antialiased='embeddings.register_tokens',
  ignored=(r'embeddings\.mask_token',),
  needs=('encoder/blocks/scale1',),
  complete=huggingface.complete_dinov2,
)


def _dinov2_head(registers: bool, swiglu: bool) -> Layout:
  """DINOv2 with a classifier, which `huggingface.pad_classifier` widens."""
  prefix = 'dinov2_with_registers.' if registers else 'dinov2.'
  return _dinov2(
    f'Hugging Face DINOv2{" with registers" if registers else ""} and a classifier',
    huggingface.dinov2_with_head(registers, swiglu),
    prefixes=('',),
    antialiased=f'{prefix}embeddings.register_tokens',
    ignored=(r'.*embeddings\.mask_token',),
    config=huggingface.config_of('dinov2', 'Dinov2ForImageClassification'),
    wide_classifier=True,
  )


# The word before the first '-' is the family that commands take; of a family, the first layout that
# has all names is written.
LAYOUTS: dict[str, Layout] = {
  'google': _google('Google ViT', google.vit(google.PRE_LINEN)),
  'big_vision': _big_vision('big_vision ViT', google.big_vision(scanned=False)),
  'big_vision-scanned': _big_vision('big_vision ViT, scanned', google.big_vision(scanned=True)),
  'google-linen': _google('Google ViT, Linen numbering', google.vit(google.LINEN)),
  'google-bit': Layout('Google BiT', google.bit(), prefixes=('resnet/', '')),
  'timm': _timm('timm ViT', timm.VIT, ignored=('mask_token',)),
  'timm-cait': Layout('timm CaiT', timm.CAIT, config=timm.cait_config),
  'timm-hybrid-stem': _timm(
    'timm hybrid without stages', timm.HYBRID_WITHOUT_STAGES, config=timm.hybrid_config
  ),
  'timm-hybrid': _timm('timm hybrid', timm.HYBRID, config=timm.hybrid_config),
  'timm-resnet': Layout(
    'timm ResNet', timm.RESNET, ignored=timm.RESNET_IGNORED, config=timm.resnet_config
  ),
  'timm-bit': Layout('timm BiT', timm.BIT, config=timm.bit_config),
  'hf': _hf(
    'Hugging Face ViT',
    huggingface.vit('vit.'),
    call=huggingface.vit_config,
    config=huggingface.config_of('vit', 'ViTForImageClassification'),
  ),
  'hf-deit': _hf(
    'Hugging Face DeiT',
    huggingface.deit('deit.'),
    config=huggingface.config_of('deit', 'DeiTForImageClassificationWithTeacher'),
  ),
  'hf-dinov2': _dinov2(
    'Hugging Face DINOv2',
    huggingface.dinov2('', swiglu=False),
    config=huggingface.config_of('dinov2', 'Dinov2Model'),
  ),
  'hf-dinov2-swiglu': _dinov2(
    'Hugging Face DINOv2',
    huggingface.dinov2('', swiglu=True),
    config=huggingface.config_of('dinov2', 'Dinov2Model'),
  ),
  **{
    'hf-dinov2-head' + '-registers' * registers + '-swiglu' * swiglu: _dinov2_head(
      registers, swiglu
    )
    for registers in (False, True)
    for swiglu in (False, True)
  },
  'hf-vit-bare': _hf('Hugging Face ViT without head', huggingface.vit('')),
  'hf-deit-bare': _hf('Hugging Face DeiT without head', huggingface.deit('')),
}
FAMILIES = ('google', 'big_vision', 'timm', 'hf')


def recognize(names: Iterable[str], where: str) -> tuple[str, str]:
  """(the name in `LAYOUTS` of the layout that knows most of these names, their prefix).

  Raises:
    UserError: none knows half of them.
  """
  names = list(names)
  best, known = ('', ''), 0
  for word, layout in LAYOUTS.items():
    for prefix in layout.prefixes:
      inside = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
      count = count_known(layout, inside)
      if count > known and 2 * count >= len(inside):
        best, known = (word, prefix), count
  if not known:
    raise UserError(
      f'{where} has names of no known layout, such as {min(names, default="")!r}; '
      f'known are {", ".join(layout.words for layout in LAYOUTS.values())}'
    )
  return best


def layout_for(
  families: Sequence[str],
  our_names: Collection[str],
  pool: str = 'cls',
  positions: Sequence[str] = ('learned',),
) -> Layout:
  """The layout of the first family (or full name) that has a name for each of our leaves.

  Args:
    pool: of a ViT, which models of that library must have.
    positions: kinds, of which models of that library must have one.

  Raises:
    UserError: there is none; names what the first family lacks.
  """
  lacking = []
  for family in families:
    found = [layout for word, layout in LAYOUTS.items() if family in (word, word.partition('-')[0])]
    if not found:
      raise UserError(f'--layout={family} is unknown; {nearest(family, (*FAMILIES, *LAYOUTS))}')
    found = [layout for layout in found if set(layout.needs) <= set(our_names)]
    best = min(found, key=lambda layout: len(unnamed(layout, our_names)))
    missing = unnamed(best, our_names)
    if pool not in best.pools:
      lacking.append(f'has no models with pool={pool!r}; --layout=big_vision has')
    elif not set(positions) & set(best.positions):
      lacking.append(f'has no models with posemb={positions[0]!r}')
    elif missing:
      lacking.append(f'has no name for {first_few(missing)}')
    else:
      return best
  raise UserError(f'--layout={families[0]} {lacking[0]}')

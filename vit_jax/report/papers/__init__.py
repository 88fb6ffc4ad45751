"""The tables of the papers: a CSV file each in this folder, and here what they are.

To add one, put its CSV file here, with a source in every row, and an entry into `TABLES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Result(NamedTuple):
  """What a column of accuracies is, and which runs have it.

  Attributes:
    data: the data set of such a run; empty if runs do not measure this.
    split: its eval; if empty the one named test, else the first.
    metric: of that eval.
    pretrained: what it was pretrained on, where the column and not the row decides that.
  """

  data: str = ''
  split: str = ''
  metric: str = 'top1'
  pretrained: str = ''


class Table(NamedTuple):
  """A table of a paper.

  Attributes:
    title: what it is and where it stands.
    words: columns that say which row is which.
    results: columns of accuracies in percent.
    note: what is counted, and how, in sentences.
    flop_a_mac: FLOP of a multiply-accumulate in the GFLOPs of the paper; in exaFLOPs it is 2.
    passes: forward passes of a training step in its exaFLOPs.
    padding: whether it counts products with the padding of a convolution.
  """

  title: str
  words: tuple[str, ...]
  results: Mapping[str, Result]
  note: str
  flop_a_mac: int = 2
  passes: int = 3
  padding: bool = True


_IMAGENET, _REAL, _V2 = (Result('imagenet2012', split) for split in ('', 'real', 'v2'))
_TOP5 = Result('imagenet2012', metric='top5')
_TRANSFER = {
  'imagenet': _IMAGENET,
  'real': _REAL,
  'cifar10': Result('cifar10'),
  'cifar100': Result('cifar100'),
  'pets': Result('oxford_iiit_pet'),
  'flowers': Result('oxford_flowers102'),
}
_VTAB = (
  'caltech101',
  'cifar_100',
  'dtd',
  'flowers102',
  'pets',
  'sun397',
  'svhn',
  'camelyon',
  'eurosat',
  'resisc45',
  'retinopathy',
  'clevr_count',
  'clevr_dist',
  'dmlab',
  'dspr_loc',
  'dspr_ori',
  'kitti_dist',
  'snorb_azim',
  'snorb_elev',
  'mean',
)
_BOTH = 'A multiply-accumulate is 2 FLOP; a training step is 3 forward passes.'
_MACS = (
  'GFLOPs are multiply-accumulates, 1 FLOP each, of one forward pass of one image, as the '
  'source has them.'
)

TABLES: dict[str, Table] = {
  'vit_table6': Table(
    'ViT (arXiv:2010.11929) Table 6: pretraining on JFT-300M at 224 pixels, fine-tuned at 384',
    ('model', 'epochs'),
    _TRANSFER,
    f'exaFLOPs are those of pretraining. {_BOTH} 303 million images an epoch, heads of 18,291 '
    'classes. Products with the padding of a convolution are left out, as in the cost '
    'analysis of XLA; with them the ResNets would be 3.5 to 5 % above the paper. The paper '
    'states none of this; it is what its figures fit. It has no parameters in this table: '
    'those are what the authors or others published for the model, with 1000 classes or '
    'without a head (see the CSV), and for three models nobody did. Its Table 1 has one number '
    'a size: 86M, which is B/16 without a head; 307M, L/32 with 1000 classes; 632M, H/14 with '
    '1000 classes.',
    padding=False,
  ),
  'vit_table5': Table(
    'ViT (arXiv:2010.11929) Table 5: fine-tuned at 384 pixels, by pretraining data',
    ('model', 'pretrain_data'),
    _TRANSFER,
    f'Ours with 1000 classes at 384 pixels. {_BOTH}',
  ),
  'vit_table2': Table(
    'ViT (arXiv:2010.11929) Table 2: the largest models; ImageNet fine-tuned at 512 (L/16) and '
    '518 pixels (H/14) with averaged weights',
    ('model', 'pretrain_data'),
    {**_TRANSFER, 'vtab': Result(), 'tpuv3_core_days': Result()},
    f'Ours with 1000 classes at that size. {_BOTH} Spreads are in the CSV.',
  ),
  'vtab': Table(
    'ViT (arXiv:2010.11929) Table 9: VTAB-1k by task',
    ('model', 'pretrain_data'),
    dict.fromkeys(_VTAB, Result()),
    f'Ours with 1000 classes. {_BOTH}',
  ),
  'augreg_table3': Table(
    'AugReg (arXiv:2106.10270) Table 3: ImageNet top-1 by pretraining data and epochs',
    ('model', 'resolution'),
    {
      'i1k_no_adaptation': Result('imagenet2012', pretrained='ImageNet'),
      'i1k_300': Result('imagenet2012', pretrained='ImageNet'),
      'i21k_30': Result('imagenet2012', pretrained='ImageNet-21k'),
      'i21k_300': Result('imagenet2012', pretrained='ImageNet-21k'),
      'i21k_selected': Result('imagenet2012', pretrained='ImageNet-21k'),
      'jft300m_vit_paper': Result('imagenet2012', pretrained='JFT-300M'),
    },
    f'{_BOTH} Parameters with 1000 classes and the hidden layer of the pretraining head, which '
    'is how the paper arrives at its own. i21k_selected is the checkpoint picked by '
    'ImageNet-v2.',
  ),
  'better_baselines': Table(
    'Better plain ViT baselines (arXiv:2205.01580) Tables 1 and 2: ViT-S/16 on ImageNet-1k',
    ('table', 'variant', 'epochs'),
    {'imagenet': _IMAGENET, 'real': _REAL, 'v2': _V2},
    f'{_BOTH} 1,281,167 images an epoch. The paper prints no exaFLOPs.',
  ),
  'deit': Table(
    'DeiT (arXiv:2012.12877) Table 5 and README: ImageNet-1k',
    ('model', 'where', 'resolution'),
    {'imagenet': _IMAGENET, 'top5': _TOP5, 'real': _REAL, 'v2': _V2},
    'GFLOPs are multiply-accumulates, 1 FLOP each, as DeiT counts. exaFLOPs, which it does not '
    'print, are 3 forward passes of 2 FLOP a multiply-accumulate and 1,281,167 images an '
    'epoch. Its parameters are whole millions.',
    flop_a_mac=1,
  ),
  'deit3': Table(
    'DeiT III (arXiv:2204.07118), README_revenge.md: ImageNet top-1',
    ('model', 'pretrain_data', 'resolution'),
    {'imagenet': _IMAGENET, 'v2': _V2},
    _MACS,
    flop_a_mac=1,
  ),
  'cait': Table(
    'CaiT (arXiv:2103.17239) as its README, timm and others quote it: ImageNet-1k',
    ('model', 'resolution', 'distilled', 'evidence'),
    {'imagenet': _IMAGENET, 'top5': _TOP5, 'real': _REAL, 'v2': _V2},
    f'{_MACS} timm measured the published weights again, and its count has normalisations in it.',
    flop_a_mac=1,
  ),
  'scaling_vit': Table(
    'Scaling ViT (arXiv:2106.04560) Tables 2 and 5 to 22: pretraining on parts of JFT-3B',
    ('model', 'label', 'data_size', 'steps'),
    {
      'imagenet': _IMAGENET,
      'v2': _V2,
      'real': _REAL,
      'inet5shot': Result(),
      'inet10shot': Result(),
    },
    f'{_BOTH} Ours without class token and head, as the parameters of the paper fit, at 224 '
    'pixels; its GFLOPs have what is not a matrix product in them. exaFLOPs, which it does not '
    'print, for batches of 4096. A label that is "inferred" was lost in the text of the paper '
    'and concluded from the figures.',
  ),
  'scaling_vit_table1': Table(
    'Scaling ViT (arXiv:2106.04560) Table 1: the largest models',
    ('model',),
    {
      'imagenet': _IMAGENET,
      'v2': _V2,
      'real': _REAL,
      'objectnet': Result(),
      'vtab_light': Result(),
    },
    f'Ours with 1000 classes at 518 pixels. {_BOTH}',
  ),
  'sovit': Table(
    'SoViT (arXiv:2305.13035) Tables 1 and 2',
    ('model', 'judged', 'resolution'),
    {
      'imagenet': _IMAGENET,
      'real': _REAL,
      'v2': _V2,
      'imagenet_r': Result(),
      'imagenet_a': Result(),
      'objectnet': Result(),
    },
    'A multiply-accumulate is 2 FLOP. exaFLOPs are those of pretraining at 224 pixels, on 40 '
    'and 16 thousand million images, and the paper counts one forward pass for a training '
    'step. Ours without a head.',
    passes=1,
  ),
  'convnets': Table(
    'Convolutional networks and ViTs of torchvision 0.20.1, and ResNet (arXiv:1512.03385) Table 4',
    ('model', 'weights', 'resolution'),
    {'imagenet': _IMAGENET, 'top5': _TOP5},
    f'{_MACS} Table 4 is of a fully convolutional network at several sizes.',
    flop_a_mac=1,
  ),
  'bit': Table(
    'BiT (arXiv:1912.11370), the published weights measured by timm',
    ('model', 'resolution'),
    {'imagenet': _IMAGENET, 'top5': _TOP5, 'real': _REAL, 'v2': _V2},
    f'{_MACS} That of timm has normalisations in it, which is why ours is less.',
    flop_a_mac=1,
  ),
}

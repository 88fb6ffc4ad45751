"""The options of each family of models: every name, default and range is declared here alone.

The keys of `config.model` are these fields, and modules take one of these dataclasses. Reading them
needs neither jax nor flax. Where a default is missing, the name of the model has it; see
`names.MODELS`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from vit_jax.errors import UserError
from vit_jax.fields import bounded

AttentionKind = Literal['auto', 'xla', 'cudnn']
Dtype = Literal['float32', 'bfloat16', 'float16']
Fused = Literal['auto', True, False]
Init = Literal['xavier', 'trunc_normal']
MlpKind = Literal['gelu', 'relu', 'swiglu']
Remat = Literal['none', 'full', 'dots', 'names']
StochasticDepthRule = Literal['linear', 'constant']
Unroll = Literal['auto', True, False]

GROUPS = 32  # of channels, each normalized by itself in a GroupNorm


@dataclass(frozen=True, kw_only=True)
class TransformerOptions:
  """What all Transformers have in common.

  Attributes:
    width: of a token, D of the legend.
    depth: layers, L.
    mlp: hidden units of the MLP, F.
    heads: of attention, A.
    layerscale: initial scale of the residual branches (arXiv:2103.17239); 0 is without.
    stochastic_depth: probability of dropping a residual branch of an example.
    dropout: after the positions and after every dense layer but qkv.
    mlp_kind: two dense layers with a GELU or a ReLU, or three with a SiLU gate (arXiv:2002.05202).
    exact_gelu: the normal distribution function in GELU, else its tanh form.
    fused_qkv: queries, keys and values in one matrix product, else in three; 'auto' is three on a
      TPU.
    attention: 'xla', 'cudnn', or 'auto' for the better one that works here.
    unroll: layers as straight code rather than a loop: faster, but slower to compile; 'auto'
      unrolls up to `blocks.UNROLL_UP_TO` layers.
    remat: what the backward pass computes again: nothing, all ('full'), all but the results of
      dense layers ('dots'), all but qkv, attention and hidden units ('names').
    dtype: of matrix products and of the tokens.
  """

  qk_norm: ClassVar[bool] = False  # options of ViTs
  qkv_bias: ClassVar[bool] = True
  init: ClassVar[str] = 'xavier'  # of models of patches

  width: int = bounded(low=1)
  depth: int = bounded(low=1)
  mlp: int = bounded(low=1)
  heads: int = bounded(low=1)
  layerscale: float = bounded(0.0, low=0)
  stochastic_depth: float = bounded(0.0, low=0, high=0.99)
  dropout: float = bounded(0.0, low=0, high=0.99)
  mlp_kind: MlpKind = 'gelu'
  exact_gelu: bool = False
  fused_qkv: Fused = 'auto'
  attention: AttentionKind = 'auto'
  unroll: Unroll = 'auto'
  remat: Remat = 'none'
  dtype: Dtype = 'float32'

  def __post_init__(self):
    if self.width % self.heads:
      raise UserError(f'heads is {self.heads}, which does not divide width {self.width}')

  @property
  def post_norm(self) -> bool:
    """Whether a LayerNorm follows each residual sum, rather than begins each branch."""
    return False


@dataclass(frozen=True, kw_only=True)
class PatchOptions(TransformerOptions):
  """A Transformer over the patches of an image.

  Attributes:
    patch: P of the legend, in pixels.
    head_bias: initial value of the head's bias; log(1 / num_classes) suits a sigmoid loss.
    init: what kernels begin as: Google's, or a deviation of 0.02, timm's; see `initializers`.
  """

  patch: int = bounded(16, low=1)
  head_bias: float = 0.0
  init: Init = 'xavier'  # pyright: ignore[reportIncompatibleVariableOverride]


@dataclass(frozen=True, kw_only=True)
class ViTOptions(PatchOptions):
  """A Vision Transformer (arXiv:2010.11929).

  Attributes:
    pool: what the head sees: the class token, the mean of the patches, or a MAP head.
    distilled: a second token after the class token, with a head of its own, that learns from a
      teacher (arXiv:2012.12877 section 4); evaluation takes the mean of both heads.
    posemb: learned for the class token and each patch; sines and cosines of the row and
      column of each patch; or none.
    posemb_class: whether class and distillation tokens have learned positions too.
    posemb_std: initial deviation of learned positions; 0 is 1 / sqrt(width), as big_vision has it.
    token_std: initial deviation of the class token; 0 begins with zeros.
    registers: extra tokens that the head does not see (arXiv:2309.16588).
    qk_norm: LayerNorm of queries and keys (arXiv:2302.05442).
    qkv_bias: whether the projections to queries, keys and values have biases.
    stochastic_depth_rule: with 'linear' the probability grows from 0 in the first layer.
    patch_dropout: share of patches that a training step drops, for each image
      (arXiv:2208.07220): cheaper steps, and a regularizer.
    representation: a tanh layer `pre_logits` before the head, as in the paper's pretraining.
    conv_stem: channels of each convolution before the patches, see `embedding.ConvEmbedding`;
      without any, patches are of pixels, as in the paper.
  """

  pool: Literal['cls', 'mean', 'map'] = 'cls'
  distilled: bool = False
  posemb: Literal['learned', 'sincos2d', 'none'] = 'learned'
  posemb_class: bool = True
  posemb_std: float = bounded(0.02, low=0)
  token_std: float = bounded(0.0, low=0)
  registers: int = bounded(0, low=0)
  qk_norm: bool = False
  qkv_bias: bool = True
  stochastic_depth_rule: StochasticDepthRule = 'linear'
  patch_dropout: float = bounded(0.0, low=0, high=0.99)
  representation: bool = False
  conv_stem: tuple[int, ...] = bounded((), low=1)

  def __post_init__(self):
    super().__post_init__()
    if self.posemb == 'sincos2d' and self.width % 4:
      raise UserError(f"posemb is 'sincos2d', which needs a width divisible by 4, not {self.width}")
    if self.distilled and self.pool != 'cls':
      raise UserError(f"pool is {self.pool!r}, but a distilled model has 'cls'")
    if self.distilled and self.representation:
      raise UserError('representation is True, but a distilled model has none')
    if self.patch % 2 ** len(self.conv_stem):
      raise UserError(
        f'conv_stem has {len(self.conv_stem)} convolutions, each of which halves the image; the '
        f'patch must be a multiple of {2 ** len(self.conv_stem)}, not {self.patch}'
      )


@dataclass(frozen=True, kw_only=True)
class HybridOptions(ViTOptions):
  """A ViT over the feature map of a ResNet (arXiv:2106.10270 section 3.1).

  The patch is in pixels. For a ResNet without stages, the stride of the convolution counts and that
  of the pooling does not: published R+Ti/16 has patches of 8x8 on a map of stride 4, so a token
  covers 32 pixels.

  Attributes:
    stages: units of each stage of the ResNet; without any, it is its stem.
    resnet_width: channels of the ResNet's stem.
    weight_epsilon: what the epsilon of weight standardization is added to. Google's code, where
      the published weights come from, adds 1e-5 to the standard deviation; timm adds 1e-8 to the
      variance. Logits differ by about 1e-4.
  """

  conv_stem: ClassVar[tuple[int, ...]] = ()  # its stem is the ResNet

  stages: tuple[int, ...] = bounded(low=1)
  resnet_width: int = bounded(64, low=1)
  weight_epsilon: Literal['std', 'variance'] = 'std'

  def __post_init__(self):
    super().__post_init__()
    _check_groups('resnet_width', self.resnet_width)
    if self.patch % self.patch_stride:
      fits = max(1, round(self.patch / self.patch_stride)) * self.patch_stride
      raise UserError(
        f'patch is {self.patch}, which does not fit a ResNet of {len(self.stages)} stages; the '
        f'nearest patch that does is {fits}'
      )

  @property
  def patch_stride(self) -> int:
    """Pixels of the patch to a place of the feature map."""
    return stride_of(self.stages) if self.stages else 2


@dataclass(frozen=True, kw_only=True)
class CaiTOptions(PatchOptions):
  """A CaiT (arXiv:2103.17239).

  `depth` counts the blocks with talking heads, in which alone `stochastic_depth` acts, the same at
  every depth (facebookresearch/deit cait_models.py). `attention` concerns the class attention, for
  talking heads need the weights themselves.

  Attributes:
    class_depth: number of blocks with class attention.
  """

  layerscale: float = bounded(low=1e-9)
  class_depth: int = bounded(2, low=1)


@dataclass(frozen=True, kw_only=True)
class ResNetOptions:
  """A residual network (arXiv:1512.03385).

  Attributes:
    block: a unit is two 3x3 convolutions, or a bottleneck (1x1, 3x3, and 1x1 to 4 times its
      width).
    stages: units of each stage; each but the first halves rows and columns.
    width: channels of the stem; those of the units double with each stage.
    zero_init: each unit begins as the identity: the scale of its last norm is 0 (arXiv:1706.02677
      section 5.1). pytorch/vision begins with 1 unless asked.
    head_bias: initial value of the head's bias, if not 0.
    dtype: of convolutions and of the tokens, which are the final feature map row by row.
  """

  block: Literal['basic', 'bottleneck'] = 'bottleneck'
  stages: tuple[int, ...] = bounded((3, 4, 6, 3), low=1)
  width: int = bounded(64, low=1)
  zero_init: bool = False
  head_bias: float = 0.0
  dtype: Dtype = 'float32'


@dataclass(frozen=True, kw_only=True)
class BiTOptions(ResNetOptions):
  """A residual network with GroupNorm (arXiv:1912.11370)."""

  zero_init: ClassVar[bool] = False  # a unit of preactivation ends with a convolution

  def __post_init__(self):
    _check_groups('width', self.width)


@dataclass(frozen=True, kw_only=True)
class AlexNetOptions:
  """AlexNet (Krizhevsky 2014, arXiv:1404.5997).

  Attributes:
    width: channels of conv1; all other layers grow and shrink with it.
    dropout: before fc6 and fc7.
    dtype: of matrix products and of the tokens, which are the last feature map row by row.
  """

  width: int = bounded(64, low=1)
  dropout: float = bounded(0.5, low=0, high=0.99)
  dtype: Dtype = 'float32'


@dataclass(frozen=True, kw_only=True)
class LeNetOptions:
  """LeNet-5 (LeCun et al. 1998).

  Attributes:
    dtype: of matrix products and of the tokens, which are the map of C5 row by row.
  """

  dtype: Dtype = 'float32'


def stride_of(stages: tuple[int, ...]) -> int:
  """Pixels of the image, down and across, to a place of a ResNet's final feature map."""
  return 4 * 2 ** max(0, len(stages) - 1)


def _check_groups(name: str, channels: int) -> None:
  if channels % GROUPS:
    raise UserError(
      f'{name} is {channels}; it must be a multiple of {GROUPS}, the groups of a GroupNorm'
    )

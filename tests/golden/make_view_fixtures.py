"""Writes views.npz and timm_pretrained_cfgs.json: what timm says of published weights, and sees.

Needs timm and torchvision. Run at the root of the repository:
    python -m tests.golden.make_view_fixtures
views.npz has two pictures, as JPEG, and of each the pixels that timm's evaluation transform makes
for each of CHECKPOINTS, every STRIDE-th of a row and a column. timm_pretrained_cfgs.json groups
timm's names of the families that we have by their preprocessing.
"""

import io
import json
import re
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
STRIDE = 9
CHECKPOINTS = (
  'vit_base_patch16_224.augreg_in21k_ft_in1k',
  'vit_base_patch16_384.augreg_in21k_ft_in1k',
  'vit_large_r50_s32_384.augreg_in21k_ft_in1k',
  'vit_medium_patch16_gap_240.sw_in12k',
  'vit_medium_patch16_gap_384.sw_in12k_ft_in1k',
  'deit_small_patch16_224.fb_in1k',
  'deit_base_distilled_patch16_384.fb_in1k',
  'deit3_small_patch16_224.fb_in1k',
  'deit3_base_patch16_224.fb_in22k_ft_in1k',
  'cait_xxs24_224.fb_dist_in1k',
  'vit_small_patch14_dinov2.lvd142m',
  'resnet50.tv_in1k',
  'resnet50.a1_in1k',
  'resnetv2_50x1_bit.goog_in21k_ft_in1k',
  'resnetv2_50x1_bit.goog_in21k',
)
# Families that we have, without those of their models that we do not.
NAMES = re.compile(
  r'(vit_(tiny|small|base|large|huge)_patch\d+_(224|384)|vit_medium_patch16_gap_\d+'
  r'|vit_(small|base|large|giant)_patch14(_reg4)?_dinov2'
  r'|vit_tiny_r_s16_p8_\d+|vit_(small|base|large)_r(26|50)_s\d+_\d+|deit3?_.*|cait_.*'
  r'|resnet(18|34|50|101|152)|resnetv2_\d+x\d_bit)(\.\w+)?'
)
KEYS = ('input_size', 'crop_pct', 'crop_mode', 'interpolation', 'mean', 'std')


def picture(height: int, width: int, seed: int) -> bytes:
  """Edges and stripes of all widths, which show how an image was resized."""
  from PIL import Image

  rng = np.random.default_rng(seed)
  y_HW, x_HW = np.mgrid[:height, :width]
  image_HWC = np.zeros((height, width, 3))
  for _ in range(12):
    angle, step = rng.uniform(0, np.pi), rng.uniform(3, 60)
    wave_HW = np.sin((np.cos(angle) * x_HW + np.sin(angle) * y_HW) * 2 * np.pi / step)
    image_HWC += (wave_HW > rng.uniform(-0.5, 0.5))[..., None] * rng.normal(0, 50, 3)
  pixels_HWC = (image_HWC + 127).clip(0, 255).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels_HWC).save(file, 'JPEG', quality=85)
  return file.getvalue()


def main() -> None:
  import timm
  from PIL import Image
  from timm.models._registry import _model_pretrained_cfgs as known

  found: dict[str, list[str]] = {}
  for name, cfg in sorted(known.items()):
    if NAMES.fullmatch(name) and not name.endswith('.untrained'):
      values = cfg.to_dict()
      found.setdefault(json.dumps([values[key] for key in KEYS]), []).append(name)
  groups = [
    dict(zip(KEYS, json.loads(key), strict=True), names=names) for key, names in found.items()
  ]
  said = {'source': f'pretrained_cfg of timm {timm.__version__}', 'groups': groups}
  path = FOLDER / 'timm_pretrained_cfgs.json'
  path.write_text(json.dumps(said, indent=1) + '\n')
  print(f'{path}: {path.stat().st_size:,} bytes, {sum(map(len, found.values()))} names')

  arrays = {}
  for k, size in enumerate(((375, 500), (330, 190))):
    record = picture(*size, seed=k)
    arrays[f'picture/{k}'] = np.frombuffer(record, np.uint8)
    image = Image.open(io.BytesIO(record)).convert('RGB')
    for name in CHECKPOINTS:
      settings = timm.data.resolve_data_config(pretrained_cfg=known[name].to_dict())
      seen_CHW = np.asarray(timm.data.create_transform(**settings, normalize=False)(image))
      arrays[f'{name}/{k}'] = seen_CHW.transpose(1, 2, 0)[::STRIDE, ::STRIDE]
  path = FOLDER / 'views.npz'
  np.savez_compressed(path, **arrays)
  print(f'{path}: {path.stat().st_size:,} bytes')


if __name__ == '__main__':
  main()

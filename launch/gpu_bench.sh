#!/usr/bin/env bash
# On a GPU: cuDNN's attention against XLA's, then our step beside timm's. About 8 minutes on one H100.
#
#   pip install -e '.[gpu,test]' && pip install torch timm && launch/gpu_bench.sh OUT_FOLDER
#
# timm's step is in eager mode and through torch.compile (max-autotune); both have float32 master
# weights and compute in bfloat16. BATCHES of a model are tried until one does not fit; the best of
# each side counts. SECONDS_EACH is the time for each contender.
set -uo pipefail
out=${1:?give a folder for the results}
mkdir -p "$out"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv | tee "$out/gpu.csv"
python -m pip list 2>/dev/null | grep -iE '^(jax|jaxlib|flax|torch|timm|nvidia-cudnn)' | tee "$out/versions.txt"
python -m pytest -n 0 -rs tests/models/test_cudnn.py | tee "$out/cudnn.txt"
# JAX would take three quarters of the memory and leave too little to its rival.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
while read -r model batches; do
  for batch in $batches; do
    file="$out/${model/\//_}_$batch.json"
    python -m vit_jax bench --model="$model" --batch="$batch" --dtype=bfloat16 --against=timm \
      --seconds="${SECONDS_EACH:-6}" --json="$file" || break
  done
done <<<"${MODELS:-S/16 512 1024
B/16 256 512
L/16 128 256
H/14 64 128}"
python - "$out" <<'END'
import json, pathlib, sys
best = {}
for path in pathlib.Path(sys.argv[1]).glob('*_*.json'):
  figures = json.loads(path.read_text())
  for row in figures['contenders']:
    key = figures['model'], row['name']
    best[key] = max(best.get(key, (0, 0)), (row['examples_per_second'], figures['batch']))
for (model, name), (rate, batch) in sorted(best.items()):
  print(f'{model}  {name:24}  {rate:9.1f} images/s at batch {batch}')
END

"""The model card of an exported model: data, recipe, what was measured, how it is used."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import yaml

import vit_jax
from vit_jax.paths import is_address
from vit_jax.run import Run
from vit_jax.weights import Opened

MOST_NAMES = 30  # of classes that are listed
LIBRARIES = {'hf': 'transformers', 'timm': 'timm', 'onnx': 'onnx', 'stablehlo': 'jax'}


class Facts(NamedTuple):
  """What is known of how a model came about.

  Attributes:
    data, recipe: as Markdown.
    measured: eval -> metric -> value, at the step of these weights.
  """

  data: str = 'not known: the weights come without their run'
  recipe: str = 'not known'
  measured: Mapping[str, Mapping[str, float]] = {}


def facts(run: Run, step: int) -> Facts:
  """What a run says of its weights at a step."""
  x, identity = run.experiment, run.identity
  recipe = x.changes()
  # Paths of a machine say nothing elsewhere.
  if folder := recipe.get('data', {}).pop('dir', ''):
    recipe['data']['dir'] = Path(folder).name
  if x.init_from and not is_address(x.init_from) and '/' in x.init_from and ':' not in x.init_from:
    recipe['init_from'] = Path(x.init_from).name
  name = f'the folder {Path(x.images.dir).name}' if x.images.dir else f'`{x.images.name}`'
  count = f', {identity.num_examples:,} training images' if identity else ''
  if identity and step == identity.steps and run.summary:
    measured = {key: value for key, value in run.summary.items() if key in x.evals}
  else:
    measured = {}
    for row in run.metrics:
      for key in row if row['step'] == step else ():
        line, slash, metric = key.partition('/')
        if slash and line in x.evals:
          measured.setdefault(line, {})[metric] = row[key]
  return Facts(
    f'{name}, split `{x.images.train}`{count}, {len(run.class_names)} classes',
    f'Step {step}. What differs from the defaults of vit_jax {vit_jax.__version__}:\n\n'
    f'```json\n{json.dumps(recipe, indent=2)}\n```',
    measured,
  )


def card(opened: Opened, known: Facts, form: str) -> str:
  """README.md of a format in `LIBRARIES`."""
  model, inputs = opened.model, opened.model.inputs
  count = sum(leaf.size for leaf in jax.tree.leaves(opened.variables['params']))
  task = 'image-classification' if model.num_classes else 'image-feature-extraction'
  head = {'library_name': LIBRARIES[form], 'pipeline_tag': task, 'tags': [task, 'vit_jax']}
  names = ', '.join(inputs.class_names[:MOST_NAMES]) or 'not known by name'
  more = len(inputs.class_names) - MOST_NAMES
  rows = [
    f'| {line} | {metric} | {value:.4f} |'
    for line, metrics in known.measured.items()
    for metric, value in metrics.items()
    if isinstance(value, int | float)
  ]
  table = '\n'.join(['| split | metric | value |', '|---|---|---|', *rows])
  return f"""---
{yaml.safe_dump(head, sort_keys=False)}---

# {opened.name}

{count:,} parameters, images of {inputs.size[0]} x {inputs.size[1]} pixels, \
{model.num_classes or 'no'} classes{': ' + names if model.num_classes else ''}\
{f' and {more} more' if more > 0 else ''}.

## Data

{known.data}.

## Recipe

{known.recipe}

## Measured

{table if rows else 'Nothing was measured at these weights.'}

## Images

{inputs.words}. {_SEEN[form]}

## Use

```python
{_use(opened, form)}
```
"""


_SEEN = {
  'hf': 'preprocessor_config.json says the same.',
  'timm': 'pretrained_cfg in config.json says the same.',
  'onnx': 'The metadata of model.onnx says the same.',
  'stablehlo': 'Mean and deviation are applied inside; images must have their size already.',
}


def _use(opened: Opened, form: str) -> str:
  size, inputs = opened.model.inputs.size, opened.model.inputs
  if form == 'hf':
    kind = 'AutoModelForImageClassification' if opened.model.num_classes else 'AutoModel'
    return f"""from PIL import Image
from transformers import AutoImageProcessor, {kind}

processor = AutoImageProcessor.from_pretrained(DIR)
model = {kind}.from_pretrained(DIR)
output = model(**processor(Image.open(FILE).convert('RGB'), return_tensors='pt'))"""
  if form == 'timm':
    return """import timm
from PIL import Image

model = timm.create_model(f'local-dir:{DIR}', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
output = model(transform(Image.open(FILE).convert('RGB'))[None])"""
  if form == 'onnx':
    mode = 'L' if len(inputs.mean) == 1 else 'RGB'
    return f"""import json, numpy as np, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession('model.onnx')
names = json.loads(session.get_modelmeta().custom_metadata_map['class_names'])
image = Image.open(FILE).convert('{mode}').resize({size[::-1]}, Image.Resampling.BICUBIC)
image_HWC = np.asarray(image, np.float32).reshape(*{size}, {len(inputs.mean)}) / 255
image_HWC = (image_HWC - {inputs.mean}) / {inputs.std}
image_BCHW = image_HWC.transpose(2, 0, 1)[None].astype(np.float32)
(output_BK,) = session.run(None, {{'pixel_values': image_BCHW}})
print(names[output_BK[0].argmax()] if names else output_BK[0].argmax())"""
  return f"""import jax, jax.export
import numpy as np
from PIL import Image

program = jax.export.deserialize(bytearray(open('uint8.bin', 'rb').read()))
image = Image.open(FILE).convert('RGB').resize({size[::-1]}, Image.Resampling.BICUBIC)
output_BK = program.call(np.asarray(image)[None])"""

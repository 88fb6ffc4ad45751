"""The Transformer on WMT 2014 English to German (Vaswani et al. 2017, arXiv:1706.03762).

    vit_jax train --config=wmt:base --config.data.dir=DIR

DIR holds train.src, train.tgt, test.src, test.tgt: 4.5 M pairs, newstest2014 as the test. Paper:
base 27.3 BLEU after 100,000 steps in 12 hours on 8 P100, big 28.4 after 300,000 steps in 3.5 days.
Not yet run here. The paper averages the last checkpoints, 5 of base and 20 of big, and takes
sentences of any length; this recipe evaluates the last one, and leaves out pairs of more than 128
tokens.
"""

from ml_collections import ConfigDict

STEPS, WIDTHS = {'base': 100_000, 'big': 300_000}, {'base': 512, 'big': 1024}


def get_config(size: str = 'base') -> ConfigDict:
  if size not in STEPS:
    raise ValueError(f'{size} is none of {", ".join(STEPS)}')
  c = ConfigDict()
  c.name = f'wmt_{size}'
  c.steps = STEPS[size]
  c.batch_size = 25_000  # tokens of each side, section 5.1
  c.model = ConfigDict(dict(name=f'Transformer-{size}', dtype='bfloat16'))
  c.data = ConfigDict(
    dict(
      kind='pairs',
      name='pairs',
      vocabulary=37_000,
      shared=True,
      max_length=128,
      buckets=(16, 32, 48, 64, 96, 128),
      row_multiple=16,
    )
  )
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  # Section 5.3; equation 3 with the width in lr.
  c.optim = ConfigDict(
    dict(lr=WIDTHS[size] ** -0.5, schedule='noam', b2=0.98, eps=1e-9, warmup=dict(steps=4000))
  )
  c.evals = ConfigDict(dict(test=dict(kind='translate', beam=4, length_penalty=0.6)))
  c.checkpoint = ConfigDict(dict(every=dict(steps=5000)))
  return c

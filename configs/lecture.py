"""The attention lineage: three ways to translate, 2014 to 2017, on the same sentences and budget.

    vit_jax compare --config=configs/lecture.py --plot=lecture.png

Each sees the same 40,000 English number names and their German ones, morphemes split, 1.75 times,
with the recipe of translate.py; 1,000 others are the test. Without attention the decoder has one
vector of 128 numbers to remember a sentence by. The plot is Figure 2 of Bahdanau et al. 2015
(arXiv:1409.0473): scores against the length of the source. Nothing is chosen on held-out sentences.
Hardware: one CPU core, 49, 63 and 172 s of training. Expected (mean of seeds 0 to 2): 30.0 % exact
without attention, 99.9 with it, 99.6 by the Transformer; of 21 words or more 1.9, 99.7 and 98.9.
"""

from ml_collections import ConfigDict

GRU = dict(name='RNN-GRU', width=128)
MODELS = {
  'RNN': dict(GRU, alignment='none'),
  'RNN with attention': dict(GRU, alignment='dot'),
  'Transformer': dict(name='Transformer-tiny', norm='pre', tied='target'),
}


def get_comparison() -> list:
  return [
    dict(name='RNN', year=2014),
    dict(name='RNN with attention', year=2015),
    dict(name='Transformer', year=2017),
  ]


def get_config(system: str = 'RNN with attention') -> ConfigDict:
  if system not in MODELS:
    raise ValueError(f'{system} is none of {", ".join(MODELS)}')
  c = ConfigDict()
  c.name = 'lecture'
  c.epochs = 1.75
  c.batch_size = 2048
  c.eval_batch_size = 8192
  c.model = ConfigDict(MODELS[system])
  c.data = ConfigDict(
    dict(
      kind='pairs',
      name='number_words',
      tokens='words',
      vocabulary=0,
      max_length=32,
      buckets=(8, 16, 24, 32),
    )
  )
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  c.optim = ConfigDict(dict(lr=3e-3, b2=0.98, clip_norm=1.0, warmup=dict(epochs=0.5)))
  c.evals = ConfigDict(dict(test=dict(kind='translate', split='test')))
  c.log = ConfigDict(dict(every=dict(steps=100)))
  return c

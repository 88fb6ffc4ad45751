"""Translation: a recurrent encoder-decoder without and with attention, and the Transformer.

    vit_jax train --config=translate:rnn_attention

Systems: rnn, rnn_attention, transformer; a data set may follow, as in
translate:transformer,libreoffice_help:de. The default is number_words: 40,000 English number names
into German, split into morphemes; 1,000 of them are the test. On text the Transformer has half of
the epochs, and so about the same seconds: its steps take twice as long.
Hardware: one CPU core; libreoffice_help 20 minutes a system. Expected: docs/translation.md.
"""

from ml_collections import ConfigDict

# Epochs, tokens per batch, width, learning rate.
DEMO = dict(epochs=1.75, batch_size=2048, width=128, lr=3e-3)
TEXT = dict(epochs=8.0, batch_size=2048, width=256, lr=2e-3)
SMALL_TEXT = TEXT | dict(epochs=24.0)  # greek_english has a quarter of the sentences
SYSTEMS = ('rnn', 'rnn_attention', 'transformer')


def get_config(arg: str = 'rnn_attention') -> ConfigDict:
  system, _, name = arg.partition(',')
  if system not in SYSTEMS:
    raise ValueError(f'{system} is none of {", ".join(SYSTEMS)}')
  name = name or 'number_words'
  demo = name in ('number_words', 'reverse')
  size = DEMO if demo else SMALL_TEXT if name == 'greek_english' else TEXT
  c = ConfigDict()
  c.name = f'translate_{system}'
  c.epochs = size['epochs']
  c.batch_size = size['batch_size']
  c.eval_batch_size = 8192
  if system == 'transformer':
    model = 'Transformer-tiny' if demo else 'Transformer-small'
    c.epochs = size['epochs'] * (1.0 if demo else 0.5)
    c.model = ConfigDict(dict(name=model, norm='pre', tied='target'))
  else:
    alignment = 'none' if system == 'rnn' else 'dot'
    c.model = ConfigDict(dict(name='RNN-GRU', width=size['width'], alignment=alignment))
  c.data = ConfigDict(dict(kind='pairs', name=name))
  if demo:
    c.data.update(dict(tokens='words', vocabulary=0, max_length=32, buckets=(8, 16, 24, 32)))
  else:
    c.data.update(dict(vocabulary=4000, max_length=64, buckets=(8, 16, 24, 32, 48, 64)))
    c.model.dropout = 0.2
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  c.optim = ConfigDict(dict(lr=size['lr'], b2=0.98, clip_norm=1.0, warmup=dict(epochs=0.5)))
  c.evals = ConfigDict(dict(test=dict(kind='translate', split='test')))
  c.log = ConfigDict(dict(every=dict(steps=100)))
  return c

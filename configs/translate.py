"""Translation: a recurrent encoder-decoder without and with attention, and the Transformer.

    vit_jax train --config=translate:rnn_attention

Systems: rnn, rnn_attention, transformer; a data set may follow, as in
translate:transformer,libreoffice_help:de. The default is number_words: 40,000 English number names
into German, split into morphemes; 1,000 of them are the test.
"""

from ml_collections import ConfigDict

# Epochs, tokens per batch, width, learning rate.
DEMO = dict(epochs=1.75, batch_size=2048, width=128, lr=3e-3)
TEXT = dict(epochs=8.0, batch_size=2048, width=256, lr=2e-3)
SYSTEMS = ('rnn', 'rnn_attention', 'transformer')


def get_config(arg: str = 'rnn_attention') -> ConfigDict:
  system, _, name = arg.partition(',')
  if system not in SYSTEMS:
    raise ValueError(f'{system} is none of {", ".join(SYSTEMS)}')
  name = name or 'number_words'
  size = DEMO if name in ('number_words', 'reverse') else TEXT
  c = ConfigDict()
  c.name = f'translate_{system}'
  c.epochs = size['epochs']
  c.batch_size = size['batch_size']
  c.eval_batch_size = 8192
  if system == 'transformer':
    model = 'Transformer-tiny' if size is DEMO else 'Transformer-small'
    c.model = ConfigDict(dict(name=model, norm='pre', tied='target'))
  else:
    alignment = 'none' if system == 'rnn' else 'dot'
    c.model = ConfigDict(dict(name='RNN-GRU', width=size['width'], alignment=alignment))
  c.data = ConfigDict(dict(kind='pairs', name=name))
  if size is DEMO:
    c.data.update(dict(tokens='words', vocabulary=0, max_length=32, buckets=(8, 16, 24, 32)))
  else:
    c.data.update(dict(vocabulary=4000, max_length=64, buckets=(8, 16, 24, 32, 48, 64)))
    c.model.dropout = 0.2
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  c.optim = ConfigDict(dict(lr=size['lr'], b2=0.98, clip_norm=1.0, warmup=dict(epochs=0.5)))
  c.evals = ConfigDict(dict(test=dict(kind='translate', split='test')))
  c.log = ConfigDict(dict(every=dict(steps=100)))
  return c

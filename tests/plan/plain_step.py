"""A train step without what costs time to compile and changes nothing in a plan."""

PLAIN = (
  '--config.augment.mixup=0.0',
  '--config.optim.ema=0.0',
  '--config.model.dropout=0.0',
  '--config.model.stochastic_depth=0.0',
  '--config.model.unroll=False',
)

"""Every recipe with the keys that it leaves to its user."""

from vit_jax import config

# Name and argument of a recipe -> what it leaves to its user.
RECIPES = {
  'earth_climate': {},
  'fashion_mnist': {},
  'folder': {'data.dir': 'images'},
  'vit_i1k:B/16': {},
  'vit_i21k:L/16': {},
  'finetune:cifar10': {'init_from': 'run'},
  'deit:S/16': {},
  'deit:S/16-distilled': {'loss.distill.teacher_weights': 'resnet152.safetensors'},
  'deit3:B/16': {},
  'deit3:H/14': {},
  'cait:XXS24': {},
  'dinov2:B/14-reg4': {'init_from': 'dinov2.safetensors'},
  'resnet:50': {},
  'bit:R50x1': {},
  'hybrid:R26+S/32': {},
  'convnets:AlexNet': {},
  'convnets:LeNet-5': {},
  'wmt:base': {'data.dir': 'wmt14'},
  'wmt:big': {'data.dir': 'wmt14'},
  'scaling': {},
  'lecture:RNN': {},
  'lecture:RNN with attention': {},
  'lecture:Transformer': {},
  'before_after:bag of words': {},
  'before_after:AlexNet': {},
  'before_after:ResNet': {},
  'before_after:DeiT': {'loss.distill.teacher_weights': 'run'},
  'before_after:CaiT': {},
  'translate:rnn': {},
  'translate:rnn_attention': {},
  'translate:transformer': {},
  'translate:transformer,libreoffice_help:de': {},
}


def resolved(spec: str) -> config.Experiment:
  return config.recipe(spec, RECIPES[spec])

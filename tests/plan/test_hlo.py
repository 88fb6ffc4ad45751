"""Reading optimized HLO: loops, products, traffic. The expected figures are worked out by hand."""

import jax
import jax.numpy as jnp
import pytest

from vit_jax.plan import costs, hlo

LOOP = """HloModule loops, is_scheduled=true

%body (p.1: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %p.1 = (s32[], f32[4,8]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %x.1 = f32[4,8]{1,0} get-tuple-element(%p.1), index=1
  %w.1 = f32[8,8]{1,0} constant({...})
  %dot.1 = f32[4,8]{1,0} dot(%x.1, %w.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %two = s32[] constant(2)
  %next = s32[] add(%i.1, %two)
  ROOT %t.1 = (s32[], f32[4,8]{1,0}) tuple(%next, %dot.1)
}

%condition (p.2: (s32[], f32[4,8])) -> pred[] {
  %p.2 = (s32[], f32[4,8]{1,0}) parameter(0)
  %i.2 = s32[] get-tuple-element(%p.2), index=0
  %limit = s32[] constant(9)
  ROOT %less = pred[] compare(%i.2, %limit), direction=LT
}

ENTRY %main (x: f32[4,8]) -> f32[4,8] {
  %x = f32[4,8]{1,0:T(8,128)} parameter(0)
  %zero = s32[] constant(1)
  %start = (s32[], f32[4,8]{1,0}) tuple(%zero, %x)
  %loop = (s32[], /*index=1*/f32[4,8]{1,0}) while(%start), condition=%condition, body=%body
  ROOT %out = f32[4,8]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_a_loop_counts_as_often_as_it_runs():
  module = hlo.parse(LOOP)
  assert module.entry == 'main'
  assert module.times == {'main': 1, 'body': 4}  # 1, 3, 5, 7
  assert costs.flops(module) == 4 * 2 * 4 * 8 * 8


def test_a_trip_count_that_xla_wrote_down_is_taken():
  text = LOOP.replace('body=%body', 'body=%body, backend_config={"known_trip_count":{"n":"12"}}')
  assert hlo.parse(text).times['body'] == 12


def test_a_loop_of_unknown_length_is_counted_once_and_told():
  module = hlo.parse(LOOP.replace('constant(9)', 'parameter(1)'))
  assert (module.times['body'], module.unknown_loops) == (1, 1)


@pytest.mark.parametrize(
  'layout, near', [('{1,0:T(8,128)(2,1)}', False), ('{1,0:T(8,128)(2,1)S(1)}', True), ('', False)]
)
def test_shapes(layout, near):
  assert hlo.arrays_of(f'bf16[16,128]{layout}') == (hlo.Array('bf16', (16, 128), near),)
  assert hlo.arrays_of(f'bf16[16,128]{layout}')[0].bytes == 16 * 128 * 2


def test_tuples_and_dtypes():
  sizes = [
    array.bytes
    for array in hlo.arrays_of(
      '(f32[], pred[3]{0}, /*index=2*/s4[10]{0}, f8e4m3fn[7]{0}, u8[2,2]{1,0})'
    )
  ]
  assert sizes == [4, 3, 5, 7, 4]


def module_of(f, *args, **options) -> hlo.Module:
  return hlo.parse(hlo.strip(jax.jit(f).lower(*args).compile().as_text()))


def test_the_products_of_a_scan_compiled_here():
  x_BD, w_LDD = jnp.ones((16, 32)), jnp.ones((6, 32, 32))

  def f(x_BD, w_LDD):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x_BD, w_LDD)[0]

  one = module_of(lambda x, w: jnp.tanh(x @ w), x_BD, w_LDD[0])
  assert costs.flops(one) == 2 * 16 * 32 * 32
  assert costs.flops(module_of(f, x_BD, w_LDD)) == 6 * costs.flops(one)


def convolution(window: str, labels: str, left: str, right: str, out: str) -> float:
  text = f"""ENTRY %main (a: f32[{left}], b: f32[{right}]) -> f32[{out}] {{
  %a = f32[{left}] parameter(0)
  %b = f32[{right}] parameter(1)
  ROOT %c = f32[{out}] convolution(%a, %b), window={{{window}}}, dim_labels={labels}
}}
"""
  return costs.flops(hlo.parse(text))


def test_convolutions():
  # 3 x 3 over 8 x 8 with a border of 1: 22 pairs a side have both ends inside.
  assert (
    convolution('size=3x3 pad=1_1x1_1', 'b01f_01io->b01f', '2,8,8,5', '3,3,5,7', '2,8,8,7')
    == 2 * 22 * 22 * 2 * 5 * 7
  )
  # A TPU's matrix product, and its batched one: attention scores of 8 images and 12 heads.
  assert convolution('size=1', '0bf_0io->0bf', '1,64,32', '1,32,48', '1,64,48') == 2 * 64 * 32 * 48
  assert (
    convolution(
      'size=8x12 stride=7x11 lhs_dilate=8x12',
      '01bf_01io->01bf',
      '8,12,197,64',
      '8,12,64,197',
      '8,12,197,197',
    )
    == 2 * 8 * 12 * 197 * 64 * 197
  )


@pytest.mark.parametrize(
  'target, products', [('__cudnn$fmhaSoftmax', 2), ('__cudnn$fmhaSoftmaxBackward', 5)]
)
def test_the_products_of_cudnn_attention(target, products):
  """Two in the forward pass; the backward pass makes the scores again, and has four gradients."""
  text = f"""HloModule attention

ENTRY %main (q: bf16[8,198,12,64], k: bf16[8,198,12,64]) -> bf16[8,12,198,64] {{
  %q = bf16[8,198,12,64]{{3,2,1,0}} parameter(0)
  %k = bf16[8,198,12,64]{{3,2,1,0}} parameter(1)
  %c = (bf16[8,12,198,64]{{3,1,2,0}}, u8[0]{{0}}) custom-call(%q, %k), custom_call_target="{target}"
  ROOT %out = bf16[8,12,198,64]{{3,1,2,0}} get-tuple-element(%c), index=0
}}
"""
  module = hlo.parse(text)
  assert costs.flops(module) == products * 2 * 8 * 12 * 198 * 198 * 64
  assert costs.traffic(module) == 3 * 2 * 8 * 198 * 12 * 64


@pytest.mark.parametrize(
  'shape, parts',
  [
    ('f32[2,3]{1,0:T(8,128)}', ['f32[2,3]{1,0:T(8,128)}']),
    (
      '((f32[2,3]{1,0}, s32[]), bf16[4]{0}, u32[])',
      ['(f32[2,3]{1,0}, s32[])', 'bf16[4]{0}', 'u32[]'],
    ),
    ('(f32[2,3]{1,0:T(8,128)(2,1)S(1)}, pred[])', ['f32[2,3]{1,0:T(8,128)(2,1)S(1)}', 'pred[]']),
  ],
)
def test_parts_of_a_tuple(shape, parts):
  assert hlo.elements(shape) == parts


def test_stripping_leaves_the_program():
  text = jax.jit(lambda x: jnp.tanh(x @ x)).lower(jnp.ones((8, 8))).compile().as_text()
  assert 'metadata=' in text
  stripped = hlo.strip(text)
  assert 'metadata=' not in stripped
  before, after = hlo.parse(text), hlo.parse(stripped)
  assert list(before.computations) == list(after.computations)
  assert costs.flops(before) == costs.flops(after) == 2 * 8**3

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


SLICING = """
%slicing (a.1: f32[12,100], i.1: s32[]) -> f32[1,100] {
  %a.1 = f32[12,100]{1,0} parameter(0)
  %i.1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %s.1 = f32[1,100]{1,0} dynamic-slice(%a.1, %i.1, %zero), dynamic_slice_sizes={1,100}
}
"""
TRAFFIC = """HloModule traffic
SLICING
%updating (a.2: f32[12,100], u.2: f32[1,100], i.2: s32[]) -> f32[12,100] {
  %a.2 = f32[12,100]{1,0} parameter(0)
  %u.2 = f32[1,100]{1,0} parameter(1)
  %i.2 = s32[] parameter(2)
  %zero.2 = s32[] constant(0)
  ROOT %d.2 = f32[12,100]{1,0} dynamic-update-slice(%a.2, %u.2, %i.2, %zero.2)
}

ENTRY %main (a: f32[12,100], i: s32[]) -> f32[12,100] {
  %a = f32[12,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %part = f32[1,100]{1,0} fusion(%a, %i), kind=kLoop, calls=%slicing
  %near = f32[1,100]{1,0:S(1)} negate(%part)
  ROOT %all = f32[12,100]{1,0} fusion(%a, %near, %i), kind=kLoop, calls=%updating
}
""".replace('SLICING', SLICING)


def test_traffic_counts_what_is_touched():
  """A slice is read and not its whole, an update is written in place, and S(1) is not HBM."""
  slice_bytes, index = 400, 4
  expected = (
    slice_bytes
    + index
    + slice_bytes  # read a slice and the index, write it
    + slice_bytes  # negate reads HBM and writes fast memory
    + slice_bytes
    + index
  )  # the update comes from there and is written to HBM
  assert costs.traffic(hlo.parse(TRAFFIC)) == expected


WITHIN = """
%renaming (a.5: f32[12,100]) -> f32[12,100] {
  %a.5 = f32[12,100]{1,0} parameter(0)
  ROOT %b.5 = f32[12,100]{0,1} bitcast(%a.5)
}

%slicing_within (a.3: f32[12,100], i.3: s32[]) -> f32[1,100] {
  %a.3 = f32[12,100]{1,0} parameter(0)
  %i.3 = s32[] parameter(1)
  %b.3 = f32[12,100]{0,1} fusion(%a.3), kind=kLoop, calls=%renaming
  ROOT %f.3 = f32[1,100]{1,0} fusion(%b.3, %i.3), kind=kLoop, calls=%slicing
}

%updating_within (a.4: f32[12,100], u.4: f32[1,100], i.4: s32[]) -> f32[12,100] {
  %a.4 = f32[12,100]{1,0} parameter(0)
  %u.4 = f32[1,100]{1,0} parameter(1)
  %i.4 = s32[] parameter(2)
  %f.4 = f32[12,100]{1,0} fusion(%a.4, %u.4, %i.4), kind=kLoop, calls=%updating
  ROOT %b.4 = f32[12,100]{1,0} bitcast(%f.4)
}

ENTRY"""


def test_traffic_looks_into_fusions_within_fusions():
  """So a loop over layers reads what it saved for one layer, not for all, in each of its turns."""
  entry = TRAFFIC[TRAFFIC.index('ENTRY') :]
  for name in ('slicing', 'updating'):
    entry = entry.replace(f'calls=%{name}', f'calls=%{name}_within')
  nested = TRAFFIC[: TRAFFIC.index('ENTRY')] + entry.replace('ENTRY', WITHIN)
  assert costs.traffic(hlo.parse(nested)) == costs.traffic(hlo.parse(TRAFFIC))


def test_what_a_fusion_within_a_fusion_only_renames_is_read_whole():
  negating = """
%negating (a.6: f32[12,100]) -> f32[12,100] {
  %a.6 = f32[12,100]{1,0} parameter(0)
  %b.6 = f32[12,100]{0,1} fusion(%a.6), kind=kLoop, calls=%renaming
  ROOT %n.6 = f32[12,100]{0,1} negate(%b.6)
}

ENTRY %main (a: f32[12,100]) -> f32[12,100] {
  %a = f32[12,100]{1,0} parameter(0)
  ROOT %all = f32[12,100]{0,1} fusion(%a), kind=kLoop, calls=%negating
}
"""
  renaming = WITHIN[: WITHIN.index('%slicing_within')]
  text = f'HloModule renamed\n{renaming}{negating}'
  assert costs.traffic(hlo.parse(text)) == 4800 + 4800


ASYNC = """HloModule async
SLICING
ENTRY %main (a: f32[12,100], i: s32[]) -> f32[1,100] {
  %a = f32[12,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  OPERATION
  ROOT %done = f32[1,100]{1,0} OPCODE-done(%start)
}
""".replace('SLICING', SLICING)


@pytest.mark.parametrize(
  'opcode, operation, moved',
  [
    # It reads a slice of 400 bytes and the index, and writes the slice; not the whole of 4,800.
    (
      'fusion',
      '%start = ((f32[12,100]{1,0}, s32[]), f32[1,100]{1,0}, u32[]) '
      'fusion-start(%a, %i), kind=kLoop, calls=%slicing',
      400 + 4 + 400,
    ),
    # (result, operand, context): from HBM to fast memory, and back.
    (
      'copy',
      '%start = (f32[12,100]{1,0:S(1)}, f32[12,100]{1,0}, u32[]) copy-start(%a)',
      4800,
    ),
    (
      'copy',
      '%near = f32[12,100]{1,0:S(1)} negate(%a)\n'
      '  %start = (f32[12,100]{1,0}, f32[12,100]{1,0:S(1)}, u32[]) copy-start(%near)',
      4800 + 4800,
    ),
    (
      'slice',
      '%start = ((f32[12,100]{1,0}), f32[1,100]{1,0:S(1)}, s32[]) slice-start(%a), '
      'slice={[0:1], [0:100]}',
      400,
    ),
    # (operand, result): both ends of a gather over four devices.
    (
      'all-gather',
      '%start = (f32[12,100]{1,0}, f32[48,100]{1,0}) all-gather-start(%a), dimensions={0}',
      4800 + 4 * 4800,
    ),
  ],
)
def test_traffic_of_what_is_asynchronous(opcode, operation, moved):
  text = ASYNC.replace('OPERATION', operation).replace('OPCODE', opcode)
  assert costs.traffic(hlo.parse(text)) == moved


LIBRARY = """HloModule library

ENTRY %main (a: bf16[64,96], b: bf16[96,32]) -> bf16[64,32] {
  %a = bf16[64,96]{1,0} parameter(0)
  %b = bf16[96,32]{1,0} parameter(1)
  %call = (bf16[64,32]{1,0}, s8[4194304]{0}) custom-call(%a, %b), \
custom_call_target="__cublas$gemm", \
backend_config={"gemm_backend_config":{"lhs_contracting_dimensions":["1"]}}
  ROOT %out = bf16[64,32]{1,0} get-tuple-element(%call), index=0
}
""".replace('\\\n', '')


def test_the_workspace_of_a_library_is_no_traffic():
  module = hlo.parse(LIBRARY)
  assert costs.traffic(module) == 2 * (64 * 96 + 96 * 32 + 64 * 32)


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

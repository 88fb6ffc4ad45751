"""Bytes through HBM, counted from HLO text: each rule by a program that shows it."""

import pytest

from vit_jax.plan import costs, hlo

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

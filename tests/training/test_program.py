"""Tests of what is read from the text of a compiled program: communication, its overlap with work, and traffic."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from qsep_jax.training import program, sharding
from qsep_jax.training.program import Collective

# Of the form that XLA prints for a GPU and for a TPU: layouts with tiles, tuples with comments, and a loop.
TEXT = """HloModule jit_steps, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %state = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%state), index=1
  %gathered = f32[64]{0:T(128)S(1)} all-gather(%x), dimensions={0}
  %y = f32[8]{0} fusion(%gathered, %x), kind=kLoop, calls=%add
  ROOT %next = (s32[], f32[8]{0}) tuple(%i, %y)
}

ENTRY %main (p: f32[8,16], q: bf16[4]) -> f32[8] {
  %p = f32[8,16]{1,0:T(8,128)} parameter(0)
  %q = bf16[4]{0} parameter(1)
  %start = f32[8,16]{1,0} all-reduce-start(%p), channel_id=1, to_apply=%add
  %work = (f32[8]{0}, /*index=1*/u8[0]{0}) custom-call(%p, %q), custom_call_target="__cudnn$convForward"
  %done = f32[8,16]{1,0} all-reduce-done(%start)
  %late = f32[8,16]{1,0} all-reduce-start(%p), channel_id=2, to_apply=%add
  %end = f32[8,16]{1,0} all-reduce-done(%late)
  %loop = (s32[], f32[8]{0}) while(%done), condition=%body, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %out = f32[8]{0} get-tuple-element(%loop), index=1
}
"""


def test_collectives():
    hidden, late, *gathered = program.collectives(TEXT)
    assert hidden == Collective("all-reduce", 8 * 16 * 4, 1, is_hidden=True)
    assert late == Collective("all-reduce", 8 * 16 * 4, 1, is_hidden=False)
    assert {collective.operation for collective in gathered} == {"all-gather"}
    assert {collective.size for collective in gathered} == {64 * 4}


def test_traffic():
    p, q = 8 * 16 * 4, 4 * 2
    starts, work = 2 * (p + p), 8 * 4 + p + q
    in_loop = (64 * 4 + 8 * 4) + (8 * 4 + 64 * 4 + 8 * 4)
    assert program.traffic(TEXT) == starts + work + 10 * in_loop  # body and condition, five times each


def test_no_program():
    with pytest.raises(ValueError, match="no compiled program"):
        program.collectives("HloModule x\n")


@pytest.mark.parametrize("count", [1, 8])
def test_the_program_of_a_mean_over_devices(count):
    """The real text of XLA for the CPU: one communication of one number, none on one device."""
    mesh = sharding.make_mesh(jax.devices()[:count])
    x = jax.ShapeDtypeStruct((64, 3), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("data")))
    text = jax.jit(jnp.mean, out_shardings=sharding.replicated(mesh)).lower(x).compile().as_text()
    communications = [(one.operation, one.size, one.count) for one in program.collectives(text)]
    assert communications == ([("all-reduce", 4, 1)] if count > 1 else [])
    assert program.traffic(text) >= 64 * 3 * 4 / count

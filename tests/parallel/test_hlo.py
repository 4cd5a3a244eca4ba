"""What is read from a compiled program, against closed forms."""

from __future__ import annotations

import pathlib

import pytest

from s2d_jax.parallel import hlo
from tests import fake_devices

_HERE = pathlib.Path(__file__).parent

# Programs whose products, collectives and copies can be counted by hand. The
# number of devices is fixed when JAX starts, so this has its own process.
_PROGRAM = """
import json
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P

def text(function, *arguments, mesh=None, donate=(), out=None):
  jitted = jax.jit(function, donate_argnums=donate, out_shardings=out)
  return jitted.lower(*arguments).compile().as_text()

auto = (jax.sharding.AxisType.Auto,) * 2
mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=auto)

def array(*shape, spec=None, dtype=jnp.float32):
  sharding = None if spec is None else NamedSharding(mesh, P(*spec))
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

def layers(x, kernels):
  return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, kernels)[0]

def nested(x, kernels):
  again = lambda x, _: (layers(x, kernels), None)
  return jax.lax.scan(again, x, None, length=3)[0]

def until(x, w, most):
  go = lambda state: (state[0] < most) & (state[1].sum() < 9.0)
  step = lambda state: (state[0] + 1, state[1] @ w)
  return jax.lax.while_loop(go, step, (0, x))[1]

def write(cache, rows):
  def step(cache, row):
    index, value = row
    cache = jax.lax.dynamic_update_slice(cache, value[None], (index, 0))
    return cache, value.sum()
  return jax.lax.scan(step, cache, (jnp.arange(5), rows))

def copy(cache, rows):
  # The old cache is read after the new one is written: it must be kept.
  def step(cache, row):
    index, value = row
    new = jax.lax.dynamic_update_slice(cache, value[None], (index, 0))
    return new, (jnp.sort(cache, axis=0)[0] * new[0]).sum()
  return jax.lax.scan(step, cache, (jnp.arange(5), rows))

def gathered(x, kernels):
  def step(x, w):
    return jnp.tanh(x @ jax.lax.all_gather(w, "b", tiled=True)), None
  return jax.lax.scan(step, x, kernels)[0]

print(json.dumps({
  "scan": text(layers, array(16, 32), array(5, 32, 32)),
  "gradient": text(
    jax.grad(lambda k, x: layers(x, k).sum()), array(5, 32, 32), array(16, 32)
  ),
  "nested": text(nested, array(16, 32), array(5, 32, 32)),
  "until": text(until, array(16, 32), array(32, 32), array(dtype=jnp.int32)),
  "gather": text(
    jax.shard_map(
      gathered,
      mesh=mesh,
      in_specs=(P("a"), P(None, "b")),
      out_specs=P("a"),
      check_vma=False,
    ),
    array(16, 32),
    array(5, 32, 32),
  ),
  "sum": text(
    lambda x: x.sum(0),
    array(8, 64, spec=(("a", "b"), None)),
    out=NamedSharding(mesh, P()),
  ),
  "write": text(write, array(128, 48), array(5, 48), donate=0),
  "copy": text(copy, array(128, 48), array(5, 48), donate=0),
}))
"""


@pytest.fixture(scope="module")
def programs() -> dict[str, hlo.Module]:
  texts = fake_devices.run(_PROGRAM)
  return {name: hlo.parse(text) for name, text in texts.items()}


_PRODUCT = 2 * 16 * 32 * 32


@pytest.mark.parametrize(
  "name, products",
  [
    ("scan", 5),
    ("gradient", 3 * 5),  # forward, and two factors backward
    ("nested", 3 * 5),
    ("until", 1),  # its count depends on the data
  ],
)
def test_products_are_counted_with_the_trips_of_their_loops(
  programs, name, products
):
  assert hlo.flops(programs[name]) == products * _PRODUCT


def test_weights_parted_over_two_chips_are_gathered_in_each_of_five_steps(
  programs,
):
  """Each chip puts in half of a kernel, and sends it to one other."""
  (found,) = hlo.collectives(programs["gather"])
  assert (found.kind, found.times) == ("all-gather", 5)
  assert found.bytes == found.sent == 32 * 32 * 4 / 2
  assert sorted(found.groups) == [(0, 1), (2, 3), (4, 5), (6, 7)]


def test_a_sum_over_eight_chips_sends_seven_eighths_twice(programs):
  found = hlo.collectives(programs["sum"])
  assert {c.kind for c in found} == {"all-reduce"}
  assert [c.size for c in found] == [8]
  assert sum(c.times * c.sent for c in found) == 2 * 7 / 8 * 64 * 4


def test_a_cache_that_is_written_in_place_is_not_copied(programs):
  assert not hlo.copies(programs["write"], (128, 48))


def test_a_cache_that_is_needed_afterwards_is_copied(programs):
  copies = hlo.copies(programs["copy"], (128, 48))
  assert 5 in {run.times for run in copies}


def test_what_loops_pile_up_is_found(programs):
  """Forward keeps inputs for the way back, which makes the gradients."""
  forward, backward = hlo.stacked_by_loops(programs["gradient"], 5)
  assert forward[1] % (5 * 16 * 32 * 4) == 0 and forward[1]
  assert backward[1] == 5 * 32 * 32 * 4
  assert "transpose" in backward[0] and "transpose" not in forward[0]


# A sample in the ways of the TPU's compiler, which this machine may not have.


@pytest.fixture(scope="module")
def sample() -> hlo.Module:
  return hlo.parse((_HERE / "tpu_sample.hlo").read_text())


def test_a_loop_without_a_written_count_is_run_by_its_scalars(sample):
  """0, 2, 4: the step of two stands in front of the loop."""
  main = sample.computations["main"]
  assert hlo.trip_count(sample, main, main.instructions["loop"]) == 3


def test_collectives_that_are_begun_awaited_or_fused_count_once(sample):
  found = {c.kind: c for c in hlo.collectives(sample)}
  assert set(found) == {"collective-permute", "reduce-scatter", "all-gather"}
  assert len(hlo.collectives(sample)) == 3
  size = 8 * 64 * 2
  permute = found["collective-permute"]
  assert (permute.times, permute.sent) == (3, size)
  assert permute.groups == ((0, 4), (1, 5))
  scatter = found["reduce-scatter"]
  assert (scatter.times, scatter.sent, scatter.size) == (3, 3 / 4 * size, 4)
  gather = found["all-gather"]
  assert (gather.times, gather.sent) == (1, 7 * size)
  evens = (0, 2, 4, 6, 8, 10, 12, 14)
  assert gather.groups == (evens, tuple(chip + 1 for chip in evens))


def test_a_product_written_as_a_convolution_counts_no_padding(sample):
  """The window of 64 meets one row of the input at each of 64 places."""
  assert hlo.flops(sample) == 2 * (4 * 256) * 1024 * (64 * 128)


def test_traffic_counts_slices_and_leaves_out_what_is_kept_near(sample):
  """A step reads one layer of six and writes it, whatever the stack's size."""
  layer = 8 * 64 * 2
  loop = sample.computations["body"]
  runs = {
    run.instruction.name: hlo.traffic(
      hlo.Module(sample.computations | {"one": _alone(loop, run)}, "one")
    )
    for run in hlo.executed(sample)
    if run.instruction.name in ("layer", "kept", "got")
  }
  number = 4  # which layer
  assert runs == {
    "layer": layer + number + layer,
    "kept": layer + layer // 4,
    "got": 0,
  }


def test_of_a_stack_that_is_converted_and_sliced_the_slice_is_read():
  """However the two are nested in the fusion."""
  text = """HloModule nested

%inner (i: s8[6,8,64]) -> s8[6,8,64] {
  %i = s8[6,8,64]{2,1,0} parameter(0)
  ROOT %same = s8[6,8,64]{2,1,0} copy(%i)
}

%outer (stack: s8[6,8,64], at: s32[]) -> bf16[8,64] {
  %stack = s8[6,8,64]{2,1,0} parameter(0)
  %copied = s8[6,8,64]{2,1,0} fusion(%stack), kind=kLoop, calls=%inner
  %wide = bf16[6,8,64]{2,1,0} convert(%copied)
  %at = s32[] parameter(1)
  %zero = s32[] constant(0)
  %one = bf16[1,8,64]{2,1,0} dynamic-slice(%wide, %at, %zero, %zero)
  ROOT %flat = bf16[8,64]{1,0} bitcast(%one)
}

ENTRY %main (w: s8[6,8,64], n: s32[]) -> bf16[8,64] {
  %w = s8[6,8,64]{2,1,0} parameter(0)
  %n = s32[] parameter(1)
  ROOT %layer = bf16[8,64]{1,0} fusion(%w, %n), kind=kLoop, calls=%outer
}
"""
  read, number, written = 8 * 64, 4, 8 * 64 * 2
  assert hlo.traffic(hlo.parse(text)) == read + number + written


@pytest.mark.parametrize(
  "attributes, kind, slices, sent",
  [
    (
      'rendezvous="all-reduce.7_0",_xla_megascale_reduce_operation="SUM",'
      '_xla_megascale_target="{1:4}x{0:3}",_xla_megascale_transfer_type='
      '"ALL_REDUCE"',
      "all-reduce",
      (1, 2, 3, 4),
      2 * 3 / 4,
    ),
    (
      'rendezvous="collective-permute.2_0",_xla_megascale_target='
      "{{100001->200000},{200000->100001}},_xla_megascale_transfer_type="
      '"ONE_TO_ONE"',
      "collective-permute",
      (1, 2),
      1,
    ),
  ],
)
def test_what_the_hosts_send_to_other_slices_counts(
  attributes, kind, slices, sent
):
  text = f"""HloModule far

ENTRY %main (x: bf16[32,64]) -> bf16[32,64] {{
  %x = bf16[32,64]{{1,0}} parameter(0)
  %token = token[] after-all()
  %sent = (bf16[32,64]{{1,0}}, u32[], token[]) send(%x, %token), channel_id=5, is_host_transfer=true, frontend_attributes={{_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_host_transfer_{attributes}}}
  ROOT %done = token[] send-done(%sent), channel_id=5
}}
"""  # noqa: E501
  (found,) = hlo.collectives(hlo.parse(text))
  assert (found.kind, found.groups) == (kind, (slices,))
  assert found.over_slices and found.sent == sent * 32 * 64 * 2


def _alone(computation, run) -> hlo.Computation:
  """A program of one instruction and its operands."""
  instruction = run.instruction
  operands = {
    name: computation.instructions[name] for name in instruction.operands
  }
  given = {
    name: hlo.Instruction(name, o.shapes, "parameter", (), "0", "")
    for name, o in operands.items()
  }
  return hlo.Computation("one", {**given, instruction.name: instruction}, "")


@pytest.mark.parametrize(
  "text, groups",
  [
    ("replica_groups={{0,1},{2,3}}", ((0, 1), (2, 3))),
    ("replica_groups=[2,2]<=[4]", ((0, 1), (2, 3))),
    ("replica_groups=[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3))),
    ("replica_groups=mesh['a'=2,'b'=2] {'b'}", ((0, 1), (2, 3))),
    ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", ((0, 1, 2, 3),)),
    (
      "replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}",
      ((0, 2), (1, 3)),
    ),
    (
      "replica_groups=mesh['a'=8] {'a':(2)2}",
      ((0, 2), (1, 3), (4, 6), (5, 7)),
    ),
    ("source_target_pairs={{0,1},{1,2},{2,0},{4,5}}", ((0, 1, 2), (4, 5))),
  ],
)
def test_groups_are_read_in_every_way_they_are_written(text, groups):
  instruction = hlo.Instruction(
    "i", (), "all-reduce", (), "", f"channel_id=1, {text}, metadata={{}}"
  )
  assert sorted(hlo.replica_groups(instruction)) == sorted(groups)

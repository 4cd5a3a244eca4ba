"""The roofline, against figures computed by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from s2d_jax.parallel import hlo
from s2d_jax.parallel.hlo import Collective
from s2d_jax.parallel.topology import CHIPS
from s2d_jax.planning import estimate as estimates
from s2d_jax.planning.estimate import Estimate
from s2d_jax.planning.models import MODELS, model_config
from s2d_jax.planning.programs import forward_flops
from s2d_jax.presets import PRESETS


@dataclasses.dataclass(frozen=True)
class _Device:
  """What a device that is elsewhere says of itself."""

  coords: tuple[int, ...]
  process_index: int = 0


def test_a_ring_along_one_of_three_dimensions_has_a_third_of_the_links():
  chip = CHIPS["v5p"]
  line = [_Device((0, 0, z)) for z in range(4)]
  plane = [_Device((0, y, z)) for y in range(4) for z in range(4)]
  assert estimates.bandwidth(chip, line) == 200e9
  assert estimates.bandwidth(chip, plane) == 400e9


def test_cores_of_one_chip_exchange_in_finite_time():
  """They have the same place; on v2 and v3 each is a device."""
  pair = [_Device((0, 1, 0)), _Device((0, 1, 0))]
  assert estimates.bandwidth(CHIPS["v3"], pair) == 164e9


def test_exchanges_are_added_up_by_kind_and_reach():
  """Sixteen chips in two hosts of two rows; rows of four exchange."""
  chips = [
    _Device((x, y), process_index=x // 2) for x in range(4) for y in range(4)
  ]

  class Mesh:
    devices = np.array(chips)

  class Topology:
    chip = CHIPS["v6e"]

  rows = tuple(tuple(range(4 * x, 4 * x + 4)) for x in range(4))
  columns = tuple(tuple(range(y, 16, 4)) for y in range(4))
  collectives = [
    Collective("all-gather", 10**9, rows, 2, ""),
    Collective("all-gather", 10**9, rows, 1, ""),
    Collective("all-reduce", 10**9, columns, 1, ""),
    Collective("all-reduce", 10**9, ((0,), (1,)), 1, ""),  # nobody to tell
    Collective("all-reduce", 10**9, ((1, 2),), 1, "", over_slices=True),
  ]
  gather, reduce, far = estimates.exchanges_of(collectives, Topology, Mesh)
  assert (gather.kind, gather.times, gather.sent) == ("all-gather", 3, 9e9)
  assert not gather.across_hosts
  assert gather.seconds == pytest.approx(9e9 / 200e9)
  assert (reduce.times, reduce.sent) == (1, 1.5e9)
  assert reduce.across_hosts and not reduce.across_slices
  # The data-centre network of v6e: 100 Gb/s a chip.
  assert far.across_slices
  assert far.seconds == pytest.approx(1e9 / 12.5e9)


def test_the_slowest_of_the_three_bounds_the_time_from_below():
  made = Estimate(
    flops=4e14,
    traffic=1e12,
    exchanges=(),
    compute=2.0,
    memory=0.5,
    network=1.0,
    tokens=1000,
    model_flops=1e14,
    peak=2e14,
  )
  assert made.bound == "compute"
  assert (made.shortest, made.longest) == (2.0, 3.5)
  assert made.mfu(made.shortest) == 0.25


def test_products_of_the_attention_kernels():
  """Of 1024 tokens in blocks of 512, three blocks of four are computed."""
  shapes = (
    hlo.Shape("s8", (1, 2, 2)),
    hlo.Shape("bf16", (4, 16, 1024, 128)),
    hlo.Shape("bf16", (4, 2, 1024, 128)),
  )
  given = {
    str(number): hlo.Instruction(str(number), (shape,), "parameter", (), "", "")
    for number, shape in enumerate(shapes)
  }
  whole = 2 * 4 * 16 * 1024 * 1024 * 128

  def products(name: str) -> float:
    call = hlo.Instruction(name, (), "custom-call", tuple(given), "", "")
    computation = hlo.Computation("c", given, "")
    return estimates.kernel_flops(hlo.Executed(call, computation, 1, False))

  assert products("splash_mha_fwd_residuals.3") == 2 * whole * 3 / 4
  assert products("splash_mha_dkv_no_residuals") == 5 * whole * 3 / 4
  assert products("something_else") == 0


@pytest.mark.parametrize(
  "name, parameters",
  [
    ("llama-2-7b", 6_738_415_616),
    ("llama-2-13b", 13_015_864_320),
    ("llama-2-70b", 68_976_648_192),
    ("llama-3.1-8b", 8_030_261_248),
    ("llama-3.1-70b", 70_553_706_496),
    ("llama-3.2-1b", 1_235_814_400),
    ("llama-3.2-3b", 3_212_749_824),
    ("qwen2.5-0.5b", 494_032_768),
    ("qwen2.5-1.5b", 1_543_714_304),
    ("smollm2-135m", 134_515_008),
    ("smollm2-360m", 361_821_120),
    ("smollm2-1.7b", 1_711_376_384),
  ],
)
def test_architectures_have_the_published_number_of_parameters(
  name, parameters
):
  assert MODELS[name].num_params == parameters


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda p: p.name)
def test_every_preset_can_be_planned(preset):
  assert model_config(preset.name) in MODELS.values()


def test_a_hub_id_names_its_architecture():
  config = model_config("meta-llama/Llama-2-70b-chat-hf")
  assert config == MODELS["llama-2-70b"]
  config = model_config("meta-llama/Llama-3.1-8B-Instruct")
  assert config == MODELS["llama-3.1-8b"]


def test_products_of_a_pass_are_two_a_parameter_and_token():
  """Without attention, all tables but the one that is only looked up."""
  config = MODELS["llama-2-7b"]
  looked_up = 32000 * 4096
  found = forward_flops(config, tokens=10, seen=0, projected=10)
  assert found == 2 * 10 * (config.num_params - looked_up)
  # Two products of 128 numbers for each of 32 heads, 32 layers and 100 keys.
  more = forward_flops(config, tokens=10, seen=100, projected=10) - found
  assert more == 10 * 100 * 32 * 32 * 128 * 2 * 2

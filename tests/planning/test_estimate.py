"""The roofline, against figures computed by hand."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from s2d_jax.checkpoints import hf_config, names
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
    ("qwen3-0.6b", 596_049_920),
    ("qwen3-1.7b", 1_720_574_976),
    ("qwen3-4b", 4_022_468_096),
    ("qwen3-8b", 8_190_735_360),
    ("qwen3-14b", 14_768_307_200),
    ("qwen3-32b", 32_762_123_264),
    ("smollm3-3b", 3_075_098_624),
    ("gemma-3-1b", 999_885_952),
    # Of the text model alone.
    ("gemma-3-4b", 3_880_263_168),
    ("gemma-3-12b", 11_766_034_176),
    ("gemma-3-27b", 27_009_346_304),
    ("olmo-2-7b", 7_298_617_344),
    ("olmo-2-13b", 13_716_198_400),
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
  for short, hub_id in names._HUB_IDS.items():
    assert model_config(short) == model_config(hub_id)


# As published, without what changes nothing that is computed.
PUBLISHED = {
  "qwen3-0.6b": {
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
  },
  "smollm3-3b": {
    "model_type": "smollm3",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "max_position_embeddings": 65536,
    "mlp_bias": False,
    "no_rope_layers": [1, 1, 1, 0] * 9,
    "no_rope_layer_interval": 4,
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "use_sliding_window": False,
    "vocab_size": 128256,
  },
  "gemma-3-1b": {
    "model_type": "gemma3_text",
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "vocab_size": 262144,
  },
  # The part of the text of one that sees pictures.
  "gemma-3-12b": {
    "model_type": "gemma3_text",
    "hidden_size": 3840,
    "intermediate_size": 15360,
    "max_position_embeddings": 131072,
    "num_attention_heads": 16,
    "num_hidden_layers": 48,
    "num_key_value_heads": 8,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "sliding_window": 1024,
    "vocab_size": 262208,
  },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_architectures_are_the_published_ones(name, tmp_path):
  (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name]))
  assert model_config(str(tmp_path)) == MODELS[name]


@pytest.mark.parametrize("name", MODELS)
def test_architectures_are_those_of_a_class_of_transformers(name, tmp_path):
  values = hf_config.config_values(MODELS[name])
  (tmp_path / "config.json").write_text(json.dumps(values))
  assert model_config(str(tmp_path)) == MODELS[name]


def test_products_of_a_pass_are_two_a_parameter_and_token():
  """Without attention, all tables but the one that is only looked up."""
  config = MODELS["llama-2-7b"]
  looked_up = 32000 * 4096
  found = forward_flops(config, tokens=10, seen=0, projected=10)
  assert found == 2 * 10 * (config.num_params - looked_up)
  # Two products of 128 numbers for each of 32 heads, 32 layers and 100 keys.
  more = forward_flops(config, tokens=10, seen=100, projected=10) - found
  assert more == 10 * 100 * 32 * 32 * 128 * 2 * 2

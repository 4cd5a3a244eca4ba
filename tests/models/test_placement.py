"""Shapes of meshes for devices that are made up."""

from __future__ import annotations

import dataclasses

import pytest

from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.models.placement import sampling_mesh, training_mesh

GIB = 2**30
OPEN = {"dcn": 0, "data": 0, "fsdp": 0, "tensor": 0}
OPEN_SAMPLING = {"data": 0, "tensor": 0}


@dataclasses.dataclass(frozen=True)
class Device:
  id: int
  slice_index: int | None = None
  platform: str = "cpu"
  device_kind: str = "made up"
  process_index: int = 0


def _devices(count: int, slices: int | None = None) -> list[Device]:
  """Of several slices, neighbours in the list are in different ones."""
  return [Device(i, i % slices if slices else None) for i in range(count)]


def _llama2(embed, layers, heads, kv_heads, mlp) -> ModelConfig:
  return ModelConfig(
    vocab_size=32000,
    embed_dim=embed,
    num_layers=layers,
    num_heads=heads,
    num_kv_heads=kv_heads,
    head_dim=128,
    mlp_dim=mlp,
    max_context=4096,
    pattern=alike(10000.0),
    rms_eps=1e-5,
    tie_embeddings=False,
  )


LLAMA_7B = _llama2(4096, 32, 32, 32, 11008)
LLAMA_70B = _llama2(8192, 80, 64, 8, 28672)
# 9 heads of 3, as SmolLM2-135M: nothing but 3 divides them.
NINE_HEADS = ModelConfig(
  49152, 576, 30, 9, 3, 64, 1536, 2048, alike(1e4), 1e-5, True
)
SMALL = ModelConfig(128, 32, 2, 4, 4, 8, 64, 64, alike(1e4), 1e-5, True)


def _train(
  config, shape, rows, count, *, slices=None, length=1024, memory=None
):
  mesh = training_mesh(
    config, OPEN | shape, rows, length, _devices(count, slices), memory
  )
  return dict(mesh.shape), mesh


# What any choice must be: all devices used, everything divides.
@pytest.mark.parametrize(
  "config, rows, count, slices, memory",
  [
    (SMALL, 8, 1, None, None),
    (SMALL, 8, 8, None, None),
    (SMALL, 2, 8, None, None),
    (SMALL, 8, 8, 2, None),
    (NINE_HEADS, 8, 8, None, None),
    (LLAMA_7B, 8, 8, None, 80 * GIB),
    (LLAMA_7B, 16, 32, None, 16 * GIB),
    (LLAMA_70B, 64, 64, None, 95 * GIB),
    (LLAMA_70B, 256, 256, None, 16 * GIB),
    (LLAMA_70B, 128, 128, 2, 95 * GIB),
    (LLAMA_70B, 8, 64, 4, 95 * GIB),
  ],
)
def test_a_chosen_mesh_uses_all_devices_and_divides(
  config, rows, count, slices, memory
):
  shape, mesh = _train(config, {}, rows, count, slices=slices, memory=memory)
  assert mesh.size == count
  assert len({device.id for device in mesh.devices.flat}) == count
  assert shape["dcn"] == (slices or 1)
  assert rows % (shape["dcn"] * shape["data"] * shape["fsdp"]) == 0
  for size in (
    config.num_heads,
    config.num_kv_heads,
    config.mlp_dim,
    config.vocab_size,
    1024,
  ):
    assert size % shape["tensor"] == 0
  assert config.embed_dim % shape["fsdp"] == 0


def test_rows_that_are_fewer_than_the_devices_are_shared_along_tensor():
  shape, _ = _train(SMALL, {}, 2, 8)
  assert shape["tensor"] == 4
  shape, _ = _train(LLAMA_70B, {}, 8, 64, memory=95 * GIB)
  assert shape["tensor"] == 8


def test_no_tensor_where_the_heads_do_not_divide():
  assert _train(NINE_HEADS, {}, 8, 8)[0]["tensor"] == 1


def test_a_model_that_fits_a_device_is_copied_and_a_large_one_is_spread():
  """The state is 16 bytes a weight; half of the memory may hold it."""
  state = 16 * SMALL.num_params
  shape, _ = _train(SMALL, {}, 8, 8, memory=2 * state + 64)
  assert shape["fsdp"] == 1
  shape, _ = _train(SMALL, {}, 8, 8, memory=2 * state - 64)
  assert shape["data"] == 1
  assert shape["fsdp"] * shape["tensor"] == 8


@pytest.mark.parametrize("slices", [2, 4])
def test_each_slice_is_one_place_along_dcn(slices):
  _, mesh = _train(SMALL, {}, 8, 8, slices=slices)
  assert mesh.axis_names[0] == "dcn"
  assert mesh.devices.shape[0] == slices
  for part in mesh.devices:
    assert len({device.slice_index for device in part.flat}) == 1


@pytest.mark.parametrize(
  "set_sizes",
  [
    {"tensor": 2},
    {"data": 4},
    {"fsdp": 8},
    {"fsdp": 2, "tensor": 4},
    {"dcn": 2},
    {"dcn": 2, "data": 2, "fsdp": 2, "tensor": 1},
    {"dcn": 1, "data": 2, "fsdp": 1, "tensor": 2},  # half of the devices
  ],
)
def test_sizes_that_are_set_are_kept(set_sizes):
  shape, mesh = _train(SMALL, set_sizes, 8, 8)
  assert shape == shape | set_sizes
  assert mesh.size == (8 if len(set_sizes) < 4 or set_sizes["dcn"] == 2 else 4)


# A model, sizes, rows, row length, and what the error must name.
_TOO_MUCH = [
  ("num_heads=6", {"num_heads": 6, "num_kv_heads": 2}, {"tensor": 4}),
  ("num_kv_heads=2", {"num_kv_heads": 2}, {"tensor": 4}),
  ("mlp_dim=66", {"mlp_dim": 66}, {"tensor": 4}),
  ("vocab_size=130", {"vocab_size": 130}, {"tensor": 4}),
  ("embed_dim=36", {"embed_dim": 36}, {"fsdp": 8}),
]


@pytest.mark.parametrize("named, sizes, shape", _TOO_MUCH)
def test_what_does_not_divide_is_named(named, sizes, shape):
  config = dataclasses.replace(SMALL, **sizes)
  with pytest.raises(UserError) as raised:
    _train(config, shape, 8, 8)
  ((axis, size),) = shape.items()
  message = str(raised.value)
  assert f"{named} does not divide over {axis}={size}" in message
  assert f"config.mesh ({axis}={size})" in message
  assert "8 devices" in message
  assert "--config.mesh." in message


def test_rows_that_do_not_divide_are_named():
  with pytest.raises(UserError, match=r"6 rows .*finetune\.batch_rows.* = 8"):
    _train(SMALL, {"tensor": 1}, 6, 8)


def test_a_row_length_that_does_not_divide_is_named():
  with pytest.raises(UserError, match="row_length=30 does .* tensor=4"):
    _train(SMALL, {"tensor": 4}, 8, 8, length=30)


@pytest.mark.parametrize(
  "shape",
  [
    {"tensor": 3},  # does not divide the devices
    {"tensor": 16},
    {"fsdp": 4, "tensor": 4},
    {"dcn": 1, "data": 4, "fsdp": 2, "tensor": 2},
  ],
)
def test_more_devices_than_there_are(shape):
  with pytest.raises(UserError, match="do not multiply to 8 devices") as raised:
    _train(SMALL, shape, 16, 8)
  for axis, size in shape.items():
    assert f"{axis}={size}" in str(raised.value)


def test_nothing_that_divides_on_two_hosts_is_an_error_that_says_so():
  """Seven devices: neither the rows nor the heads."""
  devices = [Device(i, process_index=i // 4) for i in range(7)]
  with pytest.raises(UserError, match=r"config\.mesh \(chosen\)") as raised:
    training_mesh(SMALL, OPEN, 8, 1001, devices)  # 7 · 143
  assert "the 8 rows" in str(raised.value)
  assert "num_heads=4 does not divide over tensor=7" in str(raised.value)


@pytest.mark.parametrize(
  "config, rows, count, used",
  [
    (NINE_HEADS, 3, 2, 1),  # the quickstart: 3 rows, 9 heads
    (NINE_HEADS, 3, 3, 3),
    (NINE_HEADS, 3, 4, 3),
    (NINE_HEADS, 3, 8, 3),
    (NINE_HEADS, 3, 9, 3),
    (SMALL, 8, 7, 4),
    (SMALL, 6, 8, 8),
    (SMALL, 3, 7, 6),
  ],
)
def test_of_one_host_the_most_devices_that_divide_are_used(
  config, rows, count, used
):
  shape, mesh = _train(config, {}, rows, count, length=256)
  assert mesh.size == used
  assert rows % (shape["data"] * shape["fsdp"]) == 0
  assert [device.id for device in mesh.devices.flat] == list(range(used))


def test_slices_are_not_mixed():
  with pytest.raises(UserError, match="2 slices, and dcn is 1"):
    _train(SMALL, {"dcn": 1}, 8, 8, slices=2)


def _sample(config, bytes_a_weight, count, memory, shape=None):
  mesh = sampling_mesh(
    config,
    OPEN_SAMPLING | (shape or {}),
    bytes_a_weight,
    _devices(count),
    memory and memory * GIB,
  )
  return mesh.shape["data"], mesh.shape["tensor"]


@pytest.mark.parametrize(
  "config, bytes_a_weight, count, memory, shape",
  [
    (LLAMA_70B, 1, 8, 16, (1, 8)),  # a v5e host, int8
    (LLAMA_70B, 2, 4, 95, (1, 4)),  # a v5p host, bfloat16
    (LLAMA_70B, 1, 4, 95, (2, 2)),  # 64 GiB on 2 × 47 GiB, twice
    (LLAMA_7B, 2, 8, 16, (4, 2)),  # 12.6 GiB on 2 × 8 GiB, four times
    (LLAMA_7B, 1, 8, 16, (8, 1)),
    (LLAMA_7B, 2, 1, 80, (1, 1)),
    (LLAMA_7B, 2, 8, None, (8, 1)),  # the CPU does not tell its memory
    (NINE_HEADS, 2, 8, 16, (8, 1)),
  ],
)
def test_the_sampler_has_as_many_copies_as_fit(
  config, bytes_a_weight, count, memory, shape
):
  assert _sample(config, bytes_a_weight, count, memory) == shape


def test_sampling_sizes_that_are_set_are_kept():
  assert _sample(LLAMA_7B, 2, 8, 16, {"tensor": 4}) == (2, 4)
  assert _sample(LLAMA_7B, 2, 8, 16, {"data": 2}) == (2, 4)
  # Whoever sets tensor knows better than the estimate.
  assert _sample(LLAMA_7B, 2, 8, 16, {"tensor": 1}) == (8, 1)
  assert _sample(LLAMA_7B, 2, 8, 16, {"data": 2, "tensor": 2}) == (2, 2)


@pytest.mark.parametrize(
  "config, shape, message",
  [
    # 8 key-value heads on 16 devices: 70B in bfloat16 needs them all.
    (LLAMA_70B, {}, "num_kv_heads=8 does not divide over tensor=16"),
    (LLAMA_70B, {"data": 2}, "GiB of weights do not fit 8 devices"),
    (LLAMA_7B, {"tensor": 3}, "do not multiply to 16 devices"),
    (LLAMA_7B, {"data": 8, "tensor": 4}, "do not multiply to 16 devices"),
    (NINE_HEADS, {"tensor": 2}, "num_heads=9 does not divide over tensor=2"),
  ],
)
def test_a_sampler_that_cannot_be_placed(config, shape, message):
  with pytest.raises(UserError) as raised:
    _sample(config, 2, 16, 16, shape)
  assert message in str(raised.value)
  assert "config.sampling.mesh" in str(raised.value)
  assert "--config.sampling.mesh.tensor" in str(raised.value)

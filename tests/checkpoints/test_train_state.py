from __future__ import annotations

import os
import signal

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from s2d_jax.checkpoints import train_state
from s2d_jax.checkpoints.train_state import TrainState
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.models.params import abstract_params
from s2d_jax.parallel.mesh import make_mesh, param_shardings
from tests import processes

CONFIG = ModelConfig(32, 8, 2, 4, 2, 2, 16, 16, alike(1e4), 1e-5, True)


def state(step: int) -> TrainState:
  """Every leaf a different value, and other ones at another step."""
  params = nn.unbox(abstract_params(CONFIG))
  opt_state = jax.eval_shape(optax.adamw(1e-3).init, params)
  rng = np.random.default_rng(step)

  def fill(x):
    return jnp.asarray(rng.normal(size=x.shape), x.dtype)

  params, opt_state = jax.tree.map(fill, (params, opt_state))
  return TrainState(jnp.int32(step), params, opt_state)


def abstract(mesh) -> TrainState:
  params = abstract_params(CONFIG)
  opt_state = jax.eval_shape(optax.adamw(1e-3).init, params)
  boxed = TrainState(jax.ShapeDtypeStruct((), jnp.int32), params, opt_state)
  return train_state.with_shardings(boxed, param_shardings(boxed, mesh))


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def save_all(directory, losses: dict[int, float], keep: int = 1):
  with train_state.open_manager(directory, keep) as manager:
    for step, loss in losses.items():
      train_state.save(manager, state(step), {"rows": step * 4}, loss)


def names(directory) -> set[str]:
  return {path.name for path in directory.iterdir()}


def test_latest_comes_back_bit_for_bit(tmp_path):
  save_all(tmp_path, {1: 2.0, 2: 3.0})
  with train_state.open_manager(tmp_path) as manager:
    restored, position = train_state.restore_latest(
      manager, abstract(make_mesh())
    )
  assert_same(restored, state(2))
  assert position == {"rows": 8}


def test_a_relative_folder_will_do(tmp_path, monkeypatch):
  """As in --workdir=runs/quickstart."""
  monkeypatch.chdir(tmp_path)
  save_all("runs/checkpoints", {1: 2.0})
  params = train_state.restore_params("runs/checkpoints", CONFIG, make_mesh())
  assert_same(params, state(1).params)


def test_empty_folder_has_no_latest(tmp_path):
  with train_state.open_manager(tmp_path) as manager:
    assert train_state.restore_latest(manager, abstract(make_mesh())) is None


@pytest.mark.parametrize("keep,kept", [(1, {"3", "6"}), (2, {"3", "4", "6"})])
def test_best_and_latest_are_kept(tmp_path, keep, kept):
  losses = {1: 9.0, 2: 3.0, 3: 1.0, 4: 2.0, 5: 5.0, 6: 4.0}
  save_all(tmp_path, losses, keep)
  assert names(tmp_path) == kept
  best = train_state.restore_params(tmp_path, CONFIG, make_mesh())
  assert_same(best, state(3).params)
  latest = train_state.restore_params(tmp_path, CONFIG, make_mesh(), step=6)
  assert_same(latest, state(6).params)


def test_what_a_kill_left_is_deleted_when_the_run_goes_on(tmp_path):
  """It came after a save, before the deletion of what that superseded."""
  save_all(tmp_path, {1: 3.0, 2: 1.0, 3: 2.0, 4: 4.0}, keep=4)
  assert names(tmp_path) == {"1", "2", "3", "4"}
  with train_state.open_manager(tmp_path) as manager:
    assert manager.all_steps() == [2, 4]
    restored, _ = train_state.restore_latest(manager, abstract(make_mesh()))
    assert_same(restored, state(4))
  assert names(tmp_path) == {"2", "4"}


def test_missing_steps_and_other_models_are_named(tmp_path):
  with pytest.raises(UserError, match="finetune stage"):
    train_state.restore_params(tmp_path / "no", CONFIG, make_mesh())
  with pytest.raises(UserError, match="holds no checkpoint"):
    train_state.restore_params(tmp_path, CONFIG, make_mesh())
  save_all(tmp_path, {1: 2.0})
  with pytest.raises(UserError, match="holds no checkpoint of step 7"):
    train_state.restore_params(tmp_path, CONFIG, make_mesh(), step=7)
  wider = ModelConfig(32, 16, 2, 4, 2, 2, 16, 16, alike(1e4), 1e-5, True)
  with pytest.raises(UserError, match="another model"):
    train_state.restore_params(tmp_path, wider, make_mesh())
  untied = ModelConfig(32, 8, 2, 4, 2, 2, 16, 16, alike(1e4), 1e-5, False)
  with pytest.raises(UserError, match="another model"):
    train_state.restore_params(tmp_path, untied, make_mesh())


_PROGRAM = """
import sys
from tests.checkpoints import test_train_state
getattr(test_train_state, sys.argv[1])(sys.argv[2])
"""


def run_here(function: str, directory, **environ) -> int:
  return processes.run(_PROGRAM, [function, str(directory)], **environ).status


def test_kill_while_saving_leaves_the_one_before(tmp_path):
  save_all(tmp_path, {1: 2.0})
  assert run_here("kill_while_saving", tmp_path) == -signal.SIGKILL
  assert any("tmp" in name for name in names(tmp_path))  # it had begun
  best = train_state.restore_params(tmp_path, CONFIG, make_mesh())
  assert_same(best, state(1).params)
  with train_state.open_manager(tmp_path) as manager:
    restored, _ = train_state.restore_latest(manager, abstract(make_mesh()))
    assert_same(restored, state(1))
    train_state.save(manager, state(2), {}, 1.0)
  assert names(tmp_path) == {"2"}


def test_restores_on_another_number_of_devices(tmp_path):
  save_all(tmp_path, {1: 2.0})
  eight = {"JAX_NUM_CPU_DEVICES": "8"}
  assert run_here("restore_on_a_mesh", tmp_path, **eight) == 0
  # Saved by eight, restored by one.
  best = train_state.restore_params(tmp_path, CONFIG, make_mesh(), step=2)
  assert_same(best, state(1).params)


def kill_while_saving(directory: str) -> None:
  ocp.JsonCheckpointHandler.async_save = lambda *_, **__: os.kill(
    os.getpid(), signal.SIGKILL
  )
  ocp.JsonCheckpointHandler.save = ocp.JsonCheckpointHandler.async_save
  save_all(directory, {2: 1.0})


def restore_on_a_mesh(directory: str) -> None:
  mesh = make_mesh(data=2, fsdp=2, tensor=2)
  with train_state.open_manager(directory) as manager:
    restored, _ = train_state.restore_latest(manager, abstract(mesh))
    kernel = restored.params["layers"]["mlp"]["up"]["kernel"]
    assert kernel.sharding.spec == PartitionSpec(None, "fsdp", "tensor")
    assert_same(restored, state(1))
    train_state.save(manager, restored._replace(step=2), {}, 1.0)

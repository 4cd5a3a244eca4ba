"""Whatever is missing or cut: restored as it was, or known as not whole."""

from __future__ import annotations

import pathlib
import shutil

from etils import epath
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.checkpoints import damage, train_state
from s2d_jax.checkpoints.train_state import TrainState
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.models.params import abstract_params
from s2d_jax.parallel.mesh import make_mesh, param_shardings

# Wide enough for arrays in files of their own: small ones lie in the index.
CONFIG = ModelConfig(512, 16, 1, 2, 1, 8, 16, 16, alike(1e4), 1e-5, True)


def state(step: int) -> TrainState:
  rng = np.random.default_rng(step)

  def fill(leaf):
    return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)

  params = jax.tree.map(fill, nn.unbox(abstract_params(CONFIG)))
  return TrainState(jnp.int32(step), params, {"moment": params})


def abstract() -> TrainState:
  params, mesh = abstract_params(CONFIG), make_mesh()
  count = jax.ShapeDtypeStruct((), jnp.int32)
  boxed = TrainState(count, params, {"moment": params})
  return train_state.with_shardings(boxed, param_shardings(boxed, mesh))


def restored(directory) -> TrainState:
  with train_state.open_manager(directory) as manager:
    return train_state.restore_latest(manager, abstract())[0]


def assert_same(found, step: int):
  wanted = state(step)._replace(step=found.step)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  directory = tmp_path_factory.mktemp("saved") / "checkpoints"
  with train_state.open_manager(directory, keep=3) as manager:
    for step, loss in {2: 3.0, 4: 1.0, 6: 2.0}.items():
      train_state.save(manager, state(step), {}, loss)
  return directory


@pytest.fixture
def checkpoints(saved, tmp_path) -> pathlib.Path:
  """A copy of three: 6 is the newest, 4 the best."""
  return shutil.copytree(saved, tmp_path / "run" / "checkpoints")


def names(directory: pathlib.Path) -> set[str]:
  return {path.name for path in directory.iterdir()}


def delete(path: pathlib.Path) -> None:
  path.unlink()


def empty(path: pathlib.Path) -> None:
  path.write_bytes(b"")


def halve(path: pathlib.Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_a_byte(path: pathlib.Path) -> None:
  path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [delete, empty, halve, cut_a_byte])
def test_any_file_may_be_lost(checkpoints, harm):
  """Each file of a checkpoint in turn; what is said to be whole is the same."""
  folder = checkpoints / "6"
  lost, harmless = set(), []
  for path in [path for path in folder.rglob("*") if path.is_file()]:
    content = path.read_bytes()
    harm(path)
    if damage.find(epath.Path(folder)) is None:
      harmless.append(path)
    else:
      lost.add(path.relative_to(folder).parts[0])
    path.write_bytes(content)
  assert lost == {"metrics", "position", "params", "opt_state"}
  for path in harmless:
    harm(path)
  assert_same(restored(checkpoints), 6)


def only_name(folder: pathlib.Path) -> None:
  shutil.rmtree(folder)
  folder.mkdir()


def lose(name: str):
  return lambda folder: shutil.rmtree(folder / name)


def cut(pattern: str):
  def harm(folder: pathlib.Path) -> None:
    path = max(folder.glob(pattern), key=lambda path: path.stat().st_size)
    halve(path)

  return harm


_HARMS = {
  "empty": only_name,
  "no opt_state": lose("opt_state"),
  "no params": lose("params"),
  "no position": lose("position"),
  "no metrics": lose("metrics"),
  "no array files": lose("params/ocdbt.process_0"),
  "cut array": cut("params/ocdbt.process_0/d/*"),
  "cut index": cut("opt_state/d/*"),
  "cut position": cut("position/metadata"),
  "cut loss": cut("metrics/metrics"),
}


@pytest.mark.parametrize("kind", _HARMS)
def test_a_run_goes_on_from_the_last_whole_one(checkpoints, capsys, kind):
  _HARMS[kind](checkpoints / "6")
  left = sorted(
    path.relative_to(checkpoints / "6") for path in checkpoints.glob("6/**/*")
  )
  damage.set_aside(epath.Path(checkpoints))
  assert names(checkpoints) == {"2", "4", "broken-6"}
  aside = checkpoints / "broken-6"
  assert left == sorted(path.relative_to(aside) for path in aside.glob("**/*"))
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith(f"{checkpoints}/6 is not whole (")
  assert line.endswith("it is now broken-6; the fine-tune goes on from step 4")
  assert_same(restored(checkpoints), 4)


def test_the_step_is_saved_again_and_may_be_lost_again(checkpoints):
  only_name(checkpoints / "6")
  damage.set_aside(epath.Path(checkpoints))
  with train_state.open_manager(checkpoints) as manager:
    train_state.save(manager, state(6), {}, 2.0)
  assert_same(restored(checkpoints), 6)
  lose("params")(checkpoints / "6")
  damage.set_aside(epath.Path(checkpoints))
  assert names(checkpoints) == {"4", "broken-6", "broken-6-2"}
  assert names(checkpoints / "broken-6") == set()


def test_several_in_a_row_and_then_none(checkpoints, capsys):
  only_name(checkpoints / "6")
  lose("opt_state")(checkpoints / "4")
  damage.set_aside(epath.Path(checkpoints))
  assert names(checkpoints) == {"2", "broken-4", "broken-6"}
  (line,) = capsys.readouterr().out.splitlines()
  assert "6 is not whole (it is empty)" in line and "no opt_state" in line
  assert line.endswith("the fine-tune goes on from step 2")
  only_name(checkpoints / "2")
  damage.set_aside(epath.Path(checkpoints))
  assert capsys.readouterr().out.endswith("the fine-tune begins anew\n")
  with train_state.open_manager(checkpoints) as manager:
    assert manager.latest_step() is None


def test_whole_ones_are_left_as_they_are(checkpoints, capsys):
  """And so is what lies beside them, and an older one that is half deleted."""
  (checkpoints / "notes").mkdir()
  lose("params/ocdbt.process_0")(checkpoints / "2")
  damage.set_aside(epath.Path(checkpoints))
  assert names(checkpoints) == {"2", "4", "6", "notes"}
  assert capsys.readouterr().out == ""
  assert_same(restored(checkpoints), 6)


def test_an_older_one_whose_loss_cannot_be_read(checkpoints, capsys):
  """Orbax reads the losses of all when it opens the folder."""
  cut("metrics/metrics")(checkpoints / "2")
  damage.set_aside(epath.Path(checkpoints))
  assert names(checkpoints) == {"4", "6", "broken-2"}
  assert "goes on from step 6" in capsys.readouterr().out
  assert_same(restored(checkpoints), 6)


@pytest.mark.parametrize("kind", ["no params", "cut array", "cut loss"])
def test_who_reads_the_best_is_told_that_it_is_not_whole(checkpoints, kind):
  _HARMS[kind](checkpoints / "4")
  for step in (None, 4):
    with pytest.raises(UserError, match=r"checkpoints/4 is not whole \("):
      train_state.restore_params(checkpoints, CONFIG, make_mesh(), step)
  (checkpoints / "4").rename(checkpoints / "away")
  best = train_state.restore_params(checkpoints, CONFIG, make_mesh())
  jax.tree.map(np.testing.assert_array_equal, best, state(6).params)


@pytest.mark.parametrize("kind", ["empty", "no params", "no metrics"])
def test_who_reads_the_best_does_not_mind_the_newest(checkpoints, kind):
  _HARMS[kind](checkpoints / "6")
  lose("opt_state")(checkpoints / "4")  # deleted to save space
  best = train_state.restore_params(checkpoints, CONFIG, make_mesh())
  jax.tree.map(np.testing.assert_array_equal, best, state(4).params)


def test_what_cannot_be_read_is_not_called_damaged(checkpoints, monkeypatch):
  """Nothing is set aside because the network is down."""

  def refuse(folder):
    raise ValueError("PERMISSION_DENIED: no rights\nto this")

  monkeypatch.setattr(damage, "open_arrays", refuse)
  with pytest.raises(UserError, match="PERMISSION_DENIED: no rights to this"):
    damage.set_aside(epath.Path(checkpoints))
  assert names(checkpoints) == {"2", "4", "6"}


def test_a_relative_folder_will_do(checkpoints, monkeypatch):
  monkeypatch.chdir(checkpoints.parents[1])
  damage.set_aside(epath.Path("run/checkpoints"))
  assert names(checkpoints) == {"2", "4", "6"}


def test_a_run_in_a_bucket(checkpoints, bucket, capsys):
  """What was only half copied there."""
  lose("metrics")(checkpoints / "6")
  cut("params/ocdbt.process_0/d/*")(checkpoints / "4")
  for path in checkpoints.iterdir():  # as Orbax marks them in buckets
    (path / "commit_success.txt").touch()
  bucket.fill(checkpoints)
  damage.set_aside(bucket.path)
  there = {name.partition("/")[0] for name in bucket.files()}
  assert there == {"2", "broken-4", "broken-6"}
  assert f"{bucket.path}/6 is not whole (" in capsys.readouterr().out


def test_a_run_that_begins_has_none(tmp_path, capsys):
  damage.set_aside(epath.Path(tmp_path / "checkpoints"))
  assert capsys.readouterr().out == ""

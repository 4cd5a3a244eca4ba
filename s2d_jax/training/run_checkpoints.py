"""The checkpoints of a run, which goes on with the data it began with."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib

from etils import epath
import jax
import ml_collections

from s2d_jax import full_disk
from s2d_jax.checkpoints import damage, train_state
from s2d_jax.checkpoints.train_state import TrainState
from s2d_jax.errors import UserError


class RunCheckpoints:
  """Saves the state of a run, restores the newest, and knows the best.

  A full disk is a UserError, before a state is written if that can be known; of
  one that is written in the background, when the next is saved or waited for.

  Attributes:
    start_valid_loss: of the parameters that the run began with. Every
      checkpoint has it; in a new run whoever measures it sets it.
  """

  def __init__(
    self,
    directory: epath.Path,
    config: ml_collections.ConfigDict,
    fingerprint: Mapping[str, int | str],
  ):
    """Opens the folder, and sets aside what is not whole; use it in a `with`.

    Args:
      directory: made if missing.
      config: the `finetune` section.
      fingerprint: of the data of this run.
    """
    self.start_valid_loss: float | None = None
    self._fingerprint = fingerprint
    self._directory, self._bytes = directory, 0  # of a checkpoint
    damage.set_aside(directory)
    self._manager = train_state.open_manager(
      directory, config.keep, config.async_save
    )

  def __enter__(self) -> RunCheckpoints:
    return self

  def __exit__(self, *unused) -> None:
    with self._full_disk():
      self._manager.close()

  def _full_disk(self) -> contextlib.AbstractContextManager[None]:
    return full_disk.mistakes(self._directory, self._bytes)

  @property
  def latest_step(self) -> int | None:
    """Of the newest checkpoint, complete or still being written."""
    return self._manager.latest_step()

  def restore(self, abstract: TrainState) -> TrainState:
    """The newest checkpoint, and with it `start_valid_loss`.

    Args:
      abstract: shapes and shardings to restore to.

    Raises:
      UserError: it is of other data or of another model.
    """
    state, position = train_state.restore_latest(self._manager, abstract)
    for name, value in self._fingerprint.items():
      before = position.get(name)
      if before != value:
        raise UserError(
          f"{self._manager.directory} was trained with {name}={before},"
          f" this run has {value}; use another workdir or delete that folder"
        )
    self.start_valid_loss = position["start_valid_loss"]
    return state

  def save(self, state: TrainState, valid_loss: float) -> None:
    """As `train_state.save`; with a loss of inf it is never the best."""
    position = {**self._fingerprint, "start_valid_loss": self.start_valid_loss}
    self._bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    self.wait()  # as Orbax does: earlier ones take room until this is whole
    full_disk.check(self._directory, self._bytes)
    with self._full_disk():
      train_state.save(self._manager, state, position, valid_loss)

  def wait(self) -> None:
    """Until what has been saved is complete."""
    with self._full_disk():
      self._manager.wait_until_finished()

  def best(self) -> tuple[int, float]:
    """Step and loss of the lowest validation loss, once all are complete."""
    self.wait()
    step = self._manager.best_step()
    return step, self._manager.metrics(step)["valid_loss"]

"""What a learner makes of the arrays that it is given.

How it learns is tested where it does: tests/training/test_trainer.py.
"""

from __future__ import annotations

import gc

import jax
import ml_collections
import numpy as np
import pytest

from s2d_jax.parallel import mesh as meshes
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.learner import Learner
from s2d_jax.training.packing import pack
from tests.training.test_trainer import CONFIG, MODEL, params


def live_bytes() -> int:
  """Of all arrays there are; two may be one in memory."""
  gc.collect()
  arrays = jax.live_arrays()
  return sum({x.unsafe_buffer_pointer(): x.nbytes for x in arrays}.values())


def size(tree) -> int:
  return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def learner(rank: int) -> Learner:
  lora = CONFIG.lora.to_dict() | {"rank": rank}
  config = ml_collections.ConfigDict(CONFIG.to_dict() | {"lora": lora})
  return Learner(config, MODEL, meshes.make_mesh(), total_steps=10)


class Checkpoints:
  """Notes what is in memory when a checkpoint is about to be read."""

  def restore(self, abstract):
    self.live_bytes = live_bytes()
    return abstract


@pytest.mark.parametrize("rank", [0, 2])
def test_the_weights_are_in_memory_once(rank):
  made = learner(rank)
  before = live_bytes()
  given = params()
  weights = size(given)
  with meshes.use(meshes.make_mesh(), training=True):
    made.start(given, seed=0)
  assert size(made.frozen) == (weights if rank else 0)
  moments = size(made.state.opt_state)
  trained = size(made.state.params)
  assert trained < weights / 2 if rank else trained == weights
  assert moments == pytest.approx(2 * trained, abs=16)  # and counts of steps
  held = size((made.state, made.frozen))
  assert live_bytes() - before == held


@pytest.mark.parametrize("rank", [0, 2])
def test_what_a_checkpoint_has_is_freed_before_it_is_read(rank):
  made, checkpoints = learner(rank), Checkpoints()
  before = live_bytes()
  given = params()
  weights = size(given)
  with meshes.use(meshes.make_mesh(), training=True):
    made.resume(given, checkpoints)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
  # Weights under adapters are in no checkpoint.
  assert checkpoints.live_bytes - before == (weights if rank else 0)


def test_an_update_overwrites_the_state_it_began_with():
  """A second copy of weights and moments would not fit a large model."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, MODEL.vocab_size, CONFIG.row_length)
  is_target = np.arange(len(tokens)) > 4
  example = Tokenised(tokens.astype(np.int32), is_target)
  rows = pack({"a": example}, CONFIG.row_length)
  rows = rows.take(np.arange(1), CONFIG.batch_rows)
  made = learner(rank=0)
  with meshes.use(meshes.make_mesh(), training=True):
    made.start(params(), seed=0)
    before = made.state
    made.update(rows)
  leaves = jax.tree.leaves((before.params, before.opt_state))
  assert all(leaf.is_deleted() for leaf in leaves if leaf.ndim)
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(made.state))

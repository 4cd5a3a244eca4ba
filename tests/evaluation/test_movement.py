from __future__ import annotations

import dataclasses
import pathlib

import jax
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr, softmax

from s2d_jax.checkpoints import hf
from s2d_jax.evaluation import movement
from s2d_jax.evaluation.movement import Passage, spread, windows
from s2d_jax.models.llama import Llama
from s2d_jax.parallel.mesh import make_mesh
from tests import fake_devices
from tests.one_device import read
from tests.random_model import UNTIED, random_params

GOLDENS = pathlib.Path(__file__).parent.parent / "goldens"


def measure(model, base, tuned, passages):
  mesh = make_mesh()
  kept = movement.log_probs(model, tuned, passages, mesh)
  return list(movement.divergences(model, base, passages, kept, mesh))


def logits(model, params, tokens):
  tokens = np.asarray(tokens, np.int32)[None]
  found = model.apply({"params": params}, tokens, method=Llama.init_all)
  return np.asarray(found[0], np.float64)


@pytest.fixture(scope="module")
def models():
  base = random_params(UNTIED)
  return Llama(UNTIED), base, jax.tree.map(lambda leaf: 1.05 * leaf, base)


def test_is_that_of_the_logits_of_transformers():
  """The base model's are a golden; the other's are of float64 by numpy."""
  config, base = read(hf, GOLDENS / "llama3_gqa")
  golden = np.load(GOLDENS / "llama3_gqa" / "logits.npz")
  tokens, wanted = golden["tokens"][0], golden["logits"][0]
  tuned = jax.tree.map(lambda leaf: 1.01 * leaf, base)
  model = Llama(config)
  passage = Passage("0", tuple(tokens.tolist()), tuple(range(len(tokens))))
  ((_, found),) = measure(model, base, tuned, [passage])
  other = logits(model, tuned, tokens)
  kl = rel_entr(softmax(wanted, -1), softmax(other, -1)).sum(-1)
  assert found.kl == pytest.approx(kl, abs=1e-4, rel=1e-3) and kl.max() > 1e-3
  assert found.base.tolist() == wanted.argmax(-1).tolist()
  assert found.tuned.tolist() == other.argmax(-1).tolist()


def test_by_hand_for_passages_of_several_lengths(models):
  """Padding and batch mates change nothing; only some positions count."""
  model, base, tuned = models
  rng = np.random.default_rng(0)
  passages = [
    Passage(str(n), tuple(rng.integers(0, 96, n).tolist()), (1, n - 2))
    for n in (5, 64, 9, 30, 17)
  ]
  found = measure(model, base, tuned, passages)
  assert [one.name for one, _ in found] == [one.name for one in passages]
  for passage, divergence in found:
    p, q = (
      log_softmax(logits(model, params, passage.tokens), -1)
      for params in (base, tuned)
    )
    kl = (np.exp(p) * (p - q)).sum(-1)[list(passage.positions)]
    assert divergence.kl == pytest.approx(kl, abs=1e-4)
    assert kl.min() > 1e-3


def test_a_model_is_where_it_is(models):
  model, base, _ = models
  for _, found in measure(model, base, base, windows(range(90), 50)):
    assert found.kl == pytest.approx(0, abs=1e-6) and found.kl.min() >= 0
    assert found.base.tolist() == found.tuned.tolist()


def test_hidden_states_are_compiled_once_for_both_models(models):
  model = Llama(dataclasses.replace(UNTIED, mlp_dim=40))
  base = random_params(model.config)
  before = movement._read._cache_size()
  measure(model, base, base, windows(range(90), 60))
  measure(model, base, base, windows(range(70), 20))
  assert movement._read._cache_size() == before + 1


def test_the_same_on_a_mesh():
  alone, mesh = fake_devices.run_module("tests.evaluation.movement_on_meshes")
  assert [len(kl) for kl in alone] == [29, 29, 29]
  for one, other in zip(alone, mesh, strict=True):
    assert other == pytest.approx(one, rel=1e-3, abs=1e-5)


def test_windows_of_a_text():
  parts = windows(range(300, 600), 1000)
  assert [len(part.tokens) for part in parts] == [128, 128, 44]
  assert sum((part.tokens for part in parts), ()) == tuple(range(300, 600))
  assert parts[2].positions == tuple(range(43))
  assert [len(part.tokens) for part in windows(range(61), 30)] == [30, 30]


def test_positions_are_spread_over_all_passages():
  passages = [Passage(str(i), (0,) * 65, tuple(range(64))) for i in range(10)]
  few = spread(passages, positions=100)
  assert [len(one.positions) for one in few] == [10] * 10
  assert few[0].positions == (0, 7, 14, 21, 28, 35, 42, 49, 56, 63)
  assert spread(passages) == passages
  very_many = spread(passages * 100)
  assert [len(one.positions) for one in very_many] == [16] * 64
  assert [one.name for one in spread(passages, 4)] == ["0", "3", "6", "9"]
  assert spread([]) == []

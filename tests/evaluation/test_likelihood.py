from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from s2d_jax.evaluation import likelihood
from s2d_jax.models.llama import Llama
from s2d_jax.parallel.mesh import make_mesh


def _pairs(draw: np.random.Generator):
  """Contexts with and without 80 tokens in common, one with many endings."""

  def tokens(most: int) -> tuple[int, ...]:
    return tuple(draw.integers(0, 128, draw.integers(1, most)).tolist())

  begins = tuple(draw.integers(0, 128, 80).tolist())
  contexts = [(begins if i % 3 else ()) + tokens(12) for i in range(9)]
  pairs = [(context, tokens(4)) for context in contexts for _ in range(2)]
  pairs += [(contexts[0], tokens(4)) for _ in range(5)]
  return pairs


def test_is_the_sum_of_the_log_softmax(tiny, monkeypatch):
  """However contexts are shared, and the logits computed in parts."""
  model, params = Llama(tiny.config), {"params": tiny.params}

  @jax.jit
  def scores(whole):
    steps = jnp.arange(whole.shape[1])[None]
    hidden, _ = model.apply(params, whole, steps)
    logits = model.apply(params, hidden, method=Llama.logits)
    return jax.nn.log_softmax(logits)[0]

  pairs = _pairs(np.random.default_rng(0))
  padded = [
    np.asarray(scores(np.pad([*a, *b], (0, 100 - len(a + b)))[None]))
    for a, b in pairs
  ]
  # One more that the model itself would say.
  context = pairs[0][0]
  pairs.append((context, (int(padded[0][len(context) - 1].argmax()),)))
  padded.append(padded[0])
  monkeypatch.setattr(likelihood, "_LOGITS_BYTES", 4 * 2 * 128 * 4)
  told = []
  found = likelihood.log_likelihoods(
    model, tiny.params, pairs, 4, make_mesh(), told.append
  )
  assert sum(told) == len(pairs)
  for one, table, (a, b) in zip(found, padded, pairs, strict=True):
    rows = table[len(a) - 1 : len(a) + len(b) - 1]
    expected = rows[np.arange(len(b)), b].sum()
    np.testing.assert_allclose(one.logprob, expected, atol=1e-4)
    assert one.is_greedy == (rows.argmax(-1) == b).all()
  assert found[-1].is_greedy


def test_what_is_read_once():
  """A prefix that fills a batch; a context, for all that follows it."""
  begins = tuple(range(70))
  pairs = [((*begins, i, 0), (1,)) for i in range(4) for _ in range(3)]
  pairs += [((5, 6), (i, 2)) for i in range(9)]
  units = likelihood._units(pairs)
  assert [len(unit.rows) for unit in units] == [3, 3, 3, 3, 8, 1]
  runs = list(likelihood._runs(units, least=4))
  assert [(len(prefix), len(of)) for prefix, of in runs] == [(70, 4), (0, 2)]
  # Too few to fill a batch: read with the others.
  assert [len(of) for _, of in likelihood._runs(units, least=8)] == [6]

"""Distributions against NumPy and the exact softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from s2d_jax.errors import UserError
from s2d_jax.generation import sampling
from s2d_jax.generation.sampling import Sampling, knobs

VOCABULARY = 700  # two whole blocks and a part of one
_CACHED = 2**12  # rows of it, which stay near the processor

sample = jax.jit(sampling.sample)
filtered_weights = jax.jit(sampling.filtered_weights)


def _logits(rows: int, seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.normal(scale=2.5, size=(rows, VOCABULARY)).astype(np.float32)


def _reference(logits: np.ndarray, s: Sampling) -> np.ndarray:
  """Probabilities after sorting the vocabulary, in float64."""
  scaled = logits.astype(np.float64) / s.temperature
  p = np.exp(scaled - scaled.max())
  p /= p.sum()
  order = np.argsort(-p)
  keep = np.ones(len(p), bool)
  if s.top_k:
    keep[order[s.top_k :]] = False
  if s.top_p < 1:
    kept = np.where(keep, p, 0) / p[keep].sum()
    cumulative = np.cumsum(kept[order])
    needed = np.searchsorted(cumulative, s.top_p) + 1
    keep[order[needed:]] = False
  if s.min_p:
    keep &= p >= s.min_p * p.max()
  p = np.where(keep, p, 0)
  return p / p.sum()


SETTINGS = {
  "plain": Sampling(),
  "temperature": Sampling(temperature=0.6),
  "hot": Sampling(temperature=2.0),
  "top_k": Sampling(top_k=7),
  "top_k_of_one": Sampling(top_k=1),
  "top_p": Sampling(top_p=0.8),
  "top_p_small": Sampling(top_p=0.05),
  "min_p": Sampling(min_p=0.1),
  "all": Sampling(temperature=0.8, top_k=40, top_p=0.9, min_p=0.02),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_filters_keep_what_a_sorted_vocabulary_keeps(name):
  setting = SETTINGS[name]
  logits = _logits(16)
  weights = filtered_weights(jnp.asarray(logits), knobs([setting] * 16))
  ours = np.asarray(weights / weights.sum(-1, keepdims=True))
  for row in range(16):
    want = _reference(logits[row], setting)
    np.testing.assert_array_equal(ours[row] > 0, want > 0)
    np.testing.assert_allclose(ours[row], want, atol=1e-6)


def test_rows_of_one_batch_have_their_own_settings():
  settings = list(SETTINGS.values())
  logits = _logits(len(settings))
  together = filtered_weights(jnp.asarray(logits), knobs(settings))
  for row, setting in enumerate(settings):
    want = _reference(logits[row], setting)
    np.testing.assert_array_equal(np.asarray(together[row]) > 0, want > 0)


@pytest.mark.parametrize("name", ["plain", "temperature", "top_p", "all"])
def test_draws_are_distributed_as_the_exact_softmax(name):
  """Chi-square over 40,000 draws; bins of at least 20 expected draws."""
  setting, draws = SETTINGS[name], 40_000
  logits = _logits(1, seed=3)
  want = _reference(logits[0], setting)
  uniform = jax.random.uniform(jax.random.key(5), (draws,))
  rows = 400
  count = np.zeros(VOCABULARY)
  for start in range(0, draws, rows):
    token, _ = sample(
      jnp.broadcast_to(logits, (rows, VOCABULARY)),
      uniform[start : start + rows],
      knobs([setting] * rows),
    )
    count += np.bincount(token, minlength=VOCABULARY)
  assert not count[want == 0].any()
  order = np.argsort(-want)
  expected, observed = want[order] * draws, count[order]
  common = expected >= 20
  expected = np.append(expected[common], expected[~common].sum())
  observed = np.append(observed[common], observed[~common].sum())
  used = expected > 0
  assert used.sum() > 10
  assert stats.chisquare(observed[used], expected[used]).pvalue > 1e-3


def test_greedy_takes_the_first_of_the_likeliest():
  logits = _logits(4)
  logits[2, [9, 600]] = logits.max() + 1  # a tie
  token, _ = sample(
    jnp.asarray(logits),
    jnp.array([0.0, 0.5, 0.99, 0.3]),
    knobs([Sampling(temperature=0.0)] * 4),
  )
  np.testing.assert_array_equal(token, logits.argmax(-1))


def test_log_probability_is_that_of_the_model_itself():
  logits = _logits(8)
  token, logprob = sample(
    jnp.asarray(logits),
    jnp.linspace(0.01, 0.99, 8),
    knobs([Sampling(temperature=0.5, top_k=5)] * 8),
  )
  p = np.exp(logits.astype(np.float64))
  want = np.log(p / p.sum(-1, keepdims=True))[np.arange(8), np.asarray(token)]
  np.testing.assert_allclose(logprob, want, atol=1e-5)


@pytest.mark.parametrize("uniform", [0.0, np.float32(1 - 2**-24), 0.5])
def test_a_dropped_token_is_never_drawn_at_the_ends(uniform):
  logits = np.full((1, VOCABULARY), -1.0, np.float32)
  logits[0, [300, 301]] = 4.0
  token, _ = sample(
    jnp.asarray(logits),
    jnp.array([uniform], jnp.float32),
    knobs([Sampling(top_k=2)]),
  )
  assert int(token[0]) in (300, 301)


def _adversarial() -> dict[str, np.ndarray]:
  """Weights with gaps at the ends of blocks of 256, and sums that round."""
  # (a + 1) - 1 is more than this a in float32: what is left of a target between
  # them is negative.
  two = np.zeros(301, np.float32)
  two[[0, 300]] = 0.60663575, 1.0
  ends = np.zeros(1024, np.float32)
  ends[[255, 300, 511, 1023]] = 0.29971188, 1.0, 1e-7, 0.3
  rng = np.random.default_rng(0)
  sparse = np.where(rng.random(700) < 0.02, rng.random(700), 0)
  return {"two": two, "ends": ends, "sparse": np.float32(sparse)}


def _dropped(weights: np.ndarray, uniform: np.ndarray) -> int:
  """Draws of a token without weight."""

  @jax.jit
  def draw(uniform):
    rows = jnp.broadcast_to(weights, (len(uniform), len(weights)))
    return sampling._inverse_cdf(rows, uniform)

  parts = np.split(uniform, len(uniform) // _CACHED)
  token = np.concatenate([draw(part) for part in parts])
  assert token.min() >= 0 and token.max() < len(weights)
  return int((weights[token] == 0).sum())


_UNIFORMS = 2**23  # jax.random.uniform gives multiples of 2^-23


@pytest.mark.parametrize("name", _adversarial())
def test_a_token_without_weight_is_never_drawn_at_borders(name):
  """With the numbers next to where the cumulative weight steps."""
  weights = _adversarial()[name]
  steps = np.cumsum(weights.astype(np.float64)) / weights.sum()
  near = (steps[:, None] * _UNIFORMS).astype(np.int64) + np.arange(-8, 9)
  near = np.unique(np.clip(near, 0, _UNIFORMS - 1))
  padded = np.resize(near, -(-len(near) // _CACHED) * _CACHED)
  assert _dropped(weights, np.float32(padded / _UNIFORMS)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", _adversarial())
def test_a_token_without_weight_is_never_drawn_at_all(name):
  """With every number that there is."""
  uniform = np.float32(np.arange(_UNIFORMS) / _UNIFORMS)
  assert _dropped(_adversarial()[name], uniform) == 0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_broken_logits_draw_a_token_that_exists_and_say_so(broken):
  logits = _logits(1)
  logits[0, 5] = broken
  token, logprob = sample(
    jnp.asarray(logits), jnp.array([0.999]), knobs([Sampling()])
  )
  assert 0 <= int(token[0]) < VOCABULARY
  assert not np.isfinite(logprob[0])


@pytest.mark.parametrize(
  "wrong",
  [
    {"temperature": -0.1},
    {"top_k": -1},
    {"top_p": 0.0},
    {"top_p": 1.1},
    {"min_p": 2.0},
    {"max_new_tokens": 0},
    {"stop": ("",)},
  ],
)
def test_impossible_settings_are_named(wrong):
  with pytest.raises(UserError, match=next(iter(wrong))):
    Sampling(**wrong)


def test_a_stop_string_need_not_stand_in_a_tuple():
  assert Sampling(stop="END").stop == ("END",)
  assert Sampling(stop=["a", "b"]).stop == ("a", "b")
  with pytest.raises(UserError, match="stop"):
    Sampling(stop="")

"""Attention against a plain softmax in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.models import attention
from s2d_jax.models.attention import attend
from s2d_jax.models.key_values import KeyValues
from s2d_jax.parallel import mesh as meshes
from tests import fake_devices
from tests.models import splash
from tests.random_model import UNTIED


def _reference(q, k, v, seen):
  """[T N H] queries on [S K H] keys with `seen` [T S], one row of a batch."""
  group = q.shape[1] // k.shape[1]
  k, v = (np.repeat(x, group, axis=1) for x in (k, v))
  scores = np.einsum("tnh,snh->nts", q, k) / np.sqrt(q.shape[-1])
  scores = np.where(seen, scores, -np.inf)
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  return np.einsum("nts,snh->tnh", weights, v)


@pytest.fixture
def qkv():
  rng = np.random.default_rng(0)
  make = lambda *shape: rng.normal(size=shape).astype(np.float32) * 2
  return make(4, 7, 6, 8), make(4, 7, 2, 8), make(4, 7, 2, 8)


def _attend(q, k, v, until, past=(), **how):
  return np.asarray(
    attend(
      jnp.asarray(q),
      jnp.asarray(k).swapaxes(1, 2),
      jnp.asarray(v).swapaxes(1, 2),
      jnp.asarray(until),
      past,
      **how,
    )
  )


def test_causal_attention_is_a_softmax_over_earlier_keys(qkv):
  q, k, v = qkv
  out = _attend(q, k, v, np.full((4, 7), 7))
  causal = np.tril(np.ones((7, 7), bool))
  for row in range(4):
    want = _reference(q[row], k[row], v[row], causal)
    np.testing.assert_allclose(out[row], want, atol=2e-5)


def test_sequences_of_a_row_do_not_see_each_other(qkv):
  q, k, v = qkv
  until = np.array([[3, 3, 3, 5, 5, 6, 0]] * 4)
  out = _attend(q, k, v, until)
  sequence = np.array([1, 1, 1, 2, 2, 3, 0])
  same = sequence[:, None] == sequence[None]
  want = _reference(q[1], k[1], v[1], same & np.tril(np.ones((7, 7), bool)))
  np.testing.assert_allclose(out[1, :6], want[:6], atol=2e-5)
  assert np.isfinite(out).all()  # of padding too


def test_sequences_that_begin_alike_see_their_beginning(qkv):
  """Each branch is attended to as if it stood behind the stem alone."""
  q, k, v = qkv
  # 0 1 is the stem; 2 3 and 4 5 6 are branches, of which 5 and 6 are twigs.
  out = _attend(q, k, v, np.array([[7, 7, 4, 4, 7, 6, 7]] * 4))
  for path in ([0, 1, 2, 3], [0, 1, 4, 5], [0, 1, 4, 6]):
    causal = np.tril(np.ones((len(path), len(path)), bool))
    want = _reference(q[2, path], k[2, path], v[2, path], causal)
    np.testing.assert_allclose(out[2, path], want, atol=2e-5)


@pytest.mark.parametrize("length", [64, 65, 200, 600])
def test_long_rows_are_computed_in_parts(length):
  """Of 64 queries, and of more where that would be more than 8 parts."""
  rng = np.random.default_rng(length)
  q, k, v = (
    rng.normal(size=(2, length, n, 8)).astype(np.float32) for n in (4, 2, 2)
  )
  ends = np.array([length // 3, length - 5])  # two sequences, and padding
  until = np.repeat([*ends, 0], np.diff([0, *ends, length]))
  out = _attend(q, k, v, np.stack([until, until]))
  seen = np.tril(until[:, None] == until[None])
  want = _reference(q[1], k[1], v[1], seen)
  np.testing.assert_allclose(out[1, : ends[-1]], want[: ends[-1]], atol=2e-5)
  assert np.isfinite(out).all()


def test_a_shared_past_is_seen_by_the_rows_it_serves(qkv):
  """Prefix of all rows + prompt of two rows each + own keys = one softmax."""
  q, k, v = qkv
  rng = np.random.default_rng(1)
  sizes = {"prefix": (1, 5), "prompt": (2, 3)}
  past, raw = [], {}
  for name, (entries, length) in sizes.items():
    keys, values = rng.normal(size=(2, entries, length, 2, 8))
    valid = np.ones((entries, 1, length), bool)
    valid[0, 0, length - 1] = False  # one key of entry 0 is padding
    raw[name] = keys, values, valid
    move = lambda x: jnp.asarray(x, jnp.float32).swapaxes(1, 2)
    past.append(KeyValues(move(keys), move(values), jnp.asarray(valid)))
  out = _attend(q, k, v, np.full((4, 7), 7), past)
  for row in range(4):
    keys, values, seen = [k[row]], [v[row]], [np.tril(np.ones((7, 7), bool))]
    for name, (entries, _) in sizes.items():
      entry = row // (4 // entries)
      keys.append(raw[name][0][entry])
      values.append(raw[name][1][entry])
      seen.append(np.repeat(raw[name][2][entry], 7, axis=0))
    want = _reference(
      q[row],
      np.concatenate(keys),
      np.concatenate(values),
      np.concatenate(seen, axis=1),
    )
    np.testing.assert_allclose(out[row], want, atol=2e-5)


def test_a_past_of_which_nothing_is_valid_changes_nothing(qkv):
  q, k, v = qkv
  whole = np.full((4, 7), 7)
  empty = jnp.full((1, 2, 4, 8), 3.0)
  past = [KeyValues(empty, empty, jnp.zeros((1, 1, 4), bool))]
  np.testing.assert_array_equal(
    _attend(q, k, v, whole, past), _attend(q, k, v, whole)
  )


@pytest.mark.parametrize("which", [0, 1])
def test_a_window_hides_what_lies_far_behind(qkv, which):
  """By distance in the sequence: the first two tokens are a common stem."""
  q, k, v = qkv
  until = np.array([[7, 7, 4, 4, 7, 6, 7]] * 4)
  positions = np.array([[0, 1, 2, 3, 2, 3, 3]] * 4)
  entries, valid = np.ones((1, 2, 3, 8)), np.array([[[True, True, False]]])
  past = KeyValues(
    *(jnp.asarray(x * entries, jnp.float32) for x in (0.5, 2)),
    valid=jnp.asarray(valid),
    positions=jnp.array([[-2, -1, 0]]),
  )
  out = _attend(
    *(q, k, v, until, [past]),
    positions=jnp.asarray(positions),
    window=attention.Window((None, 3), jnp.asarray(which)),
  )
  size = (100, 3)[which]
  for path in ([0, 1, 2, 3], [0, 1, 4, 5], [0, 1, 4, 6]):
    place = np.array([-2, -1, *range(len(path))])
    far = place[2:, None] - place[None]
    keys = np.concatenate([np.full((2, 2, 8), 0.5), k[3, path]])
    values = np.concatenate([np.full((2, 2, 8), 2.0), v[3, path]])
    want = _reference(q[3, path], keys, values, (far >= 0) & (far < size))
    np.testing.assert_allclose(out[3, path], want, atol=2e-5)


def test_scores_are_scaled_and_capped(qkv):
  q, k, v = qkv
  out = _attend(q, k, v, np.full((4, 7), 7), scale=0.7, cap=2.0)
  group = np.repeat(k, 3, axis=2), np.repeat(v, 3, axis=2)
  scores = 0.7 * np.einsum("btnh,bsnh->bnts", q, group[0])
  weights = np.exp(2.0 * np.tanh(scores / 2.0)) * np.tril(np.ones((7, 7)))
  weights /= weights.sum(-1, keepdims=True)
  want = np.einsum("bnts,bsnh->btnh", weights, group[1])
  np.testing.assert_allclose(out, want, atol=2e-5)


def test_a_long_prompt_is_attended_to_some_queries_at_a_time(monkeypatch):
  """The same values and gradients, and no array of all scores."""
  rng = np.random.default_rng(0)
  length, heads, size = 90, 4, 8
  make = lambda n: jnp.asarray(rng.normal(size=(2, length, n, size)), "float32")
  q, k, v = make(heads), make(2).swapaxes(1, 2), make(2).swapaxes(1, 2)
  until = jnp.asarray([[60] * 60 + [90] * 30, [90] * 90])
  past = KeyValues(
    k[:1], v[:1], jnp.ones((1, 1, length), bool), jnp.arange(length)[None]
  )

  def total(q, k, v):
    out = attend(
      *(q, k, v, until, [past]),
      positions=length + jnp.broadcast_to(jnp.arange(length), until.shape),
      window=attention.Window((100,)),
    )
    return (out**2).sum()

  compute = lambda: jax.jit(jax.value_and_grad(total, (0, 1, 2)))
  wanted = compute()(q, k, v)
  monkeypatch.setattr(attention, "_SCORES", 7 * length)
  got = compute()
  for one, other in zip(
    jax.tree.leaves(got(q, k, v)), jax.tree.leaves(wanted), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
  largest = max(
    x.aval.size
    for eqn in jax.make_jaxpr(jax.grad(total, (0, 1, 2)))(q, k, v).eqns
    for x in eqn.outvars
  )
  assert largest < 2 * heads * length * length


# float32 sums in another order, each of at most a thousand terms.
_ROUNDING = 1e-5


@pytest.mark.parametrize(
  "length, size",
  [
    (128, 128),
    (640, 64),  # five blocks, and a head narrower than a block
    (1024, 128),  # two blocks, the larger kind
  ],
)
def test_the_kernel_of_tpus_is_the_same_attention(length, size):
  """Values and gradients: grouped heads, packed sequences, padding."""
  errors = splash.errors(meshes.make_mesh(), length, size)
  assert set(errors) == {"out", "q", "k", "v"}
  assert all(error < _ROUNDING for error in errors.values()), errors


@pytest.mark.parametrize("which", [0, 1])
def test_the_kernel_of_tpus_has_windows_and_caps(which):
  """One of two windows, as a scan over layers chooses it."""
  window = attention.Window((100, None), jnp.asarray(which))
  positions = jnp.broadcast_to(jnp.arange(256), (2, 256))
  how = {"positions": positions, "window": window, "cap": 3.0}
  errors = splash.errors(meshes.make_mesh(), 256, 64, **how)
  assert all(error < _ROUNDING for error in errors.values()), errors


def test_each_device_runs_the_kernel_on_its_own_rows_and_heads():
  errors = fake_devices.run_module("tests.models.splash")
  assert all(error < _ROUNDING for error in errors.values()), errors


def _choose(platform: str, dtype, length: int) -> str:
  return attention.choose(platform, UNTIED, dtype, length)


def test_which_kernel_is_chosen(monkeypatch):
  assert _choose("tpu", "bfloat16", 1024) == "splash"
  assert _choose("tpu", "float32", 640) == "xla"  # its products are bfloat16
  assert _choose("tpu", "bfloat16", 1000) == "xla"  # no whole blocks
  assert _choose("gpu", "float32", 1024) == "xla"
  assert _choose("cpu", "bfloat16", 1024) == "xla"
  for kind, kernel in {"TPU v5 lite": "splash", "TPU v3": "xla"}.items():
    chosen = attention.choose("tpu", UNTIED, "bfloat16", 1024, kind)
    assert chosen == kernel
  asked = []

  def says_yes(*what) -> bool:
    asked.append(what)
    return True

  monkeypatch.setattr(attention, "_compiles", says_yes)
  assert _choose("gpu", "bfloat16", 1000) == "cudnn"
  assert _choose("cuda", jnp.float16, 1024) == "cudnn"
  assert asked == [
    (attention._cudnn, UNTIED, "bfloat16", 1000),
    (attention._cudnn, UNTIED, jnp.float16, 1024),
  ]


def test_a_kernel_that_does_not_compile_here_is_not_chosen():
  """There is no cuDNN on CPUs, as on an old GPU; plain XLA would compile."""
  assert _choose("gpu", "bfloat16", 48) == "xla"
  plain = lambda q, k, v, until, *_: attend(q, k, v, until)
  assert attention._compiles(plain, UNTIED, "bfloat16", 48)

"""The loss of a student against its teacher, and its gradient."""

from __future__ import annotations

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax.models.llama import Llama
from s2d_jax.training import loss as losses
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.loss import (
  Teacher,
  mean_loss_and_grads,
  reverse_kl,
  teacher_loss,
)
from s2d_jax.training.packing import OnPolicyRows, in_order, stack
from tests import fake_devices
from tests.training.test_loss import CONFIG, MODEL, params  # noqa: F401

GOLDEN = pathlib.Path(__file__).parents[1] / "goldens" / "reverse_kl.npz"


def test_divergence_and_gradient_are_those_of_pytorch():
  """In float32 beside its float64: also of two that hardly differ."""
  golden = np.load(GOLDEN)
  logits = jnp.asarray(golden["student"]), jnp.asarray(golden["teacher"])
  kl = reverse_kl(*logits)
  np.testing.assert_allclose(kl, golden["kl"], rtol=1e-6, atol=3e-8)
  got = jax.grad(lambda *x: reverse_kl(*x).sum())(*logits)
  wanted = golden["gradient"]
  for row in (0, 1, 5):
    largest = np.abs(wanted[row]).max()
    np.testing.assert_allclose(got[row], wanted[row], atol=1e-6 * largest)
  # Logits of 10 that differ by 1e-3 are known to 1e-3 of that.
  largest = np.abs(wanted[2]).max()
  np.testing.assert_allclose(got[2], wanted[2], atol=2e-3 * largest)
  # One that is sure of a token has hardly a gradient, whatever it costs: the
  # divergence itself is known to a unit in its last place.
  np.testing.assert_allclose(got[4], wanted[4], atol=1e-7 * kl[4])


def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient():
  logits = 5 * jax.random.normal(jax.random.key(0), (40, 300))
  assert not reverse_kl(logits, logits).any()
  for which in (0, 1):
    gradient = jax.grad(lambda *x: reverse_kl(*x).sum(), which)
    assert not gradient(logits, logits).any()
  moved = logits + 0.1 * jax.random.normal(jax.random.key(1), logits.shape)
  gradient = jax.grad(lambda *x: reverse_kl(*x).sum(), 1)
  assert not gradient(moved, logits).any()  # nothing to learn for the teacher


@pytest.mark.parametrize("sure", [20.0, 80.0, 1e4])
def test_what_one_of_them_excludes_is_finite(sure):
  """No logarithm of 0, where all of the mass is at one token or none is."""
  far = np.zeros((2, 5), np.float32)
  far[0, 1], far[1, 2] = sure, -sure
  for student, teacher in (far, far[::-1]):
    value, gradient = jax.value_and_grad(reverse_kl)(student, teacher)
    assert np.isfinite(value) and value >= 0 and np.isfinite(gradient).all()
  value = reverse_kl(far[0], np.zeros(5, np.float32))
  np.testing.assert_allclose(value, np.log(5), rtol=1e-6)


# Replies of different lengths behind prompts of which some begin alike; those
# of the teacher are others.
def _replies():
  rng = np.random.default_rng(1)
  draw = lambda n: rng.integers(0, 61, n)
  stem, told = draw(3), draw(2)
  found = []
  for own, more, length in ((2, 3, 4), (3, 1, 2), (2, 4, 5), (4, 2, 1)):
    reply, question = draw(length), draw(own)
    student = np.concatenate([stem, question, reply])
    teacher = np.concatenate([stem, told, question, draw(more), reply])
    is_reply = lambda tokens, n=length: (
      np.arange(len(tokens)) >= len(tokens) - n
    )
    found.append(
      [Tokenised(x.astype(np.int32), is_reply(x)) for x in (student, teacher)]
    )
  return found


def _rows(share: bool = True) -> OnPolicyRows:
  """Two rows of both, of two replies each."""
  replies = _replies()
  packed = []
  for of, length in ((0, 20), (1, 32)):
    rows = [
      in_order([pair[of] for pair in part], share)
      for part in (replies[:2], replies[2:])
    ]
    packed.append(stack(rows, length, slots=8))
  return OnPolicyRows(*packed)


@pytest.fixture(scope="module")
def teacher(params):  # noqa: F811
  changed = lambda x: x + 0.3 * jax.random.normal(jax.random.key(9), x.shape)
  return jax.tree.map(changed, params)


@jax.jit
def _log_probs(params, tokens):  # noqa: F811
  logits = MODEL.apply({"params": params}, tokens[None], method=Llama.init_all)
  return jax.nn.log_softmax(logits[0])


def _plain(params, teacher):  # noqa: F811
  """Each reply alone, the definition of the divergence, differentiated."""
  total, count = 0.0, 0
  for pair in _replies():
    log_q, log_p = (
      # One length, one compilation.
      _log_probs(weights, np.pad(one.tokens, (0, 24 - len(one.tokens))))[
        np.flatnonzero(one.is_target) - 1
      ]
      for one, weights in zip(pair, (params, teacher), strict=True)
    )
    total += (jnp.exp(log_q) * (log_q - log_p)).sum()
    count += len(log_q)
  return total / count


def _compute(params, teacher, rows, parts=1):  # noqa: F811
  summed = functools.partial(teacher_loss, teacher=Teacher(MODEL, teacher))
  cut = lambda x: jnp.asarray(x.reshape(parts, -1, x.shape[-1]))
  return jax.jit(
    lambda params, rows: mean_loss_and_grads(MODEL, params, {}, rows, summed)
  )(params, jax.tree.map(cut, rows))


def _assert_alike(got, wanted, tolerance=1e-5):
  np.testing.assert_allclose(got[0], wanted[0], rtol=tolerance)
  for a, b in zip(*map(jax.tree.leaves, (got[1], wanted[1])), strict=True):
    np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


@pytest.fixture(scope="module")
def whole(params, teacher):  # noqa: F811
  return _compute(params, teacher, _rows())


def test_packed_loss_is_the_mean_of_the_definition(params, teacher, whole):  # noqa: F811
  _assert_alike(whole, jax.value_and_grad(_plain)(params, teacher))


@pytest.mark.parametrize("how", ["apart", "in micro-batches", "in chunks"])
def test_however_it_is_computed_it_is_the_same(
  params,  # noqa: F811
  teacher,
  whole,
  monkeypatch,
  how,
):
  """Micro-batches have 6 targets each, chunks two slots of both rows."""
  if how == "in chunks":
    monkeypatch.setattr(losses, "_LOGITS_BYTES", 4 * 2 * 2 * 61)
  rows = _rows(share=how != "apart")
  parts = 2 if how == "in micro-batches" else 1
  _assert_alike(_compute(params, teacher, rows, parts), whole)


def test_both_read_the_same_tokens_of_the_same_replies():
  student, teacher = _rows()
  assert (student.target_token == teacher.target_token).all()
  assert (student.target_weight == teacher.target_weight).all()
  assert student.target_weight.sum() == 12 and student.target_weight.max() == 1
  # Beginnings are shared, but not the token that predicts a reply.
  assert (student.until > 0).sum() < sum(len(s.tokens) for s, _ in _replies())
  predicting = np.sort(student.target_index[student.target_weight > 0])
  assert len(predicting) == 12


def test_a_teacher_with_the_same_prompt_and_weights_teaches_nothing(params):  # noqa: F811
  rows = _rows()
  loss, grads = _compute(
    params, params, OnPolicyRows(rows.student, rows.student)
  )
  assert loss == 0
  assert not any(leaf.any() for leaf in jax.tree.leaves(grads))


@pytest.fixture(scope="module")
def on_meshes() -> dict:
  return fake_devices.run_module("tests.training.teacher_on_meshes")


@pytest.mark.parametrize(
  "case, leaves",
  [
    ("1 2 1 1", 11),
    ("1 1 2 2 adapters", 14),
    ("2 1 2 2", 11),
  ],
)
def test_loss_and_gradients_do_not_depend_on_the_mesh(on_meshes, case, leaves):
  """(dcn, data, fsdp, tensor); on all eight in micro-batches and chunks."""
  found = on_meshes[case]
  assert found["leaves"] == leaves
  assert found["loss"] < 1e-6 and found["worst"] < 1e-5

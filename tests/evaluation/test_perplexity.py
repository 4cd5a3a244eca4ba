from __future__ import annotations

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from s2d_jax.checkpoints import hf
from s2d_jax.errors import UserError
from s2d_jax.evaluation.perplexity import perplexity
from s2d_jax.models.llama import Llama
from tests.one_device import read

GOLDENS = pathlib.Path(__file__).parent.parent / "goldens"
MODELS = ["theta_untied", "llama3_gqa", "head_dim_sharded", "qwen2"]


def load(name):
  config, params = read(hf, GOLDENS / name)
  golden = np.load(GOLDENS / name / "logits.npz")
  return Llama(config), params, golden["tokens"][0], golden["logits"][0]


def says(tokens):
  """A tokenizer that makes these tokens of any text."""
  return lambda text: {"input_ids": list(tokens)}


@pytest.mark.parametrize("name", MODELS)
def test_is_that_of_the_logits_of_transformers(name):
  model, params, tokens, logits = load(name)
  scores = log_softmax(logits[:-1].astype(np.float64), axis=-1)
  wanted = np.exp(-scores[np.arange(len(tokens) - 1), tokens[1:]].mean())
  for window in (len(tokens), len(tokens) + 7):  # the rest is padding
    found = perplexity(model, params, says(tokens), "", window)
    assert found.tokens == len(tokens) - 1
    assert found.value == pytest.approx(wanted, rel=1e-4)


def test_windows_do_not_see_each_other():
  model, params, tokens, _ = load("llama3_gqa")
  tokens = np.concatenate([tokens, tokens[::-1], tokens[:3]])[:29]
  total, count = 0.0, 0
  for start in range(0, 29, 10):  # 10, 10 and 9 tokens
    chunk = jnp.asarray(tokens[start : start + 10])[None]
    logits = model.apply({"params": params}, chunk, method=Llama.init_all)
    scores = log_softmax(np.asarray(logits[0, :-1], np.float64), axis=-1)
    total += scores[np.arange(chunk.shape[1] - 1), chunk[0, 1:]].sum()
    count += chunk.shape[1] - 1
  found = perplexity(model, params, says(tokens), "", window=10)
  assert found.tokens == count == 26
  assert found.value == pytest.approx(np.exp(-total / count), rel=1e-4)


def test_the_window_is_at_most_the_context():
  model, params, _, _ = load("theta_untied")
  tokens = np.random.default_rng(0).integers(0, 128, 300)
  short = perplexity(model, params, says(tokens), "", window=256)
  assert perplexity(model, params, says(tokens), "", window=4096) == short
  assert short.tokens == 298


def test_a_text_of_one_token_is_refused():
  model, params, _, _ = load("theta_untied")
  with pytest.raises(UserError, match="a text of 1 tokens has no perplexity"):
    perplexity(model, params, says([3]), "")

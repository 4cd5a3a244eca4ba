from __future__ import annotations

import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from s2d_jax import LanguageModel, UserError
from s2d_jax.models.llama import Llama
from s2d_jax.system2 import think
from s2d_jax.system2.program import Template, override
from tests import tiny_chat

_PROMPTS = ["What is the capital of Peru?", "And", "Ä?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tiny_chat.write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def lm(folder) -> LanguageModel:
  return LanguageModel.load(folder, "float32")


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (2, 24))


def _generate(lm, prompts=_PROMPTS, **options):
  return lm.generate(prompts, n=3, max_new_tokens=6, **options)


def _texts(completions):
  return [[one.text for one in row] for row in completions]


def test_generate_gives_a_list_for_each_prompt(lm):
  completions = _generate(lm)
  assert [len(row) for row in completions] == [3, 3, 3]
  for row in completions:
    for one in row:
      assert 1 <= len(one.tokens) <= 6
      assert one.finish_reason in ("stop", "length")
      assert (one.finish_reason == "length") <= (len(one.tokens) == 6)
      assert one.logprob < 0


def test_the_same_seed_gives_the_same_text_and_another_another(lm):
  first = _texts(_generate(lm, seed=1))
  assert _texts(_generate(lm, seed=1)) == first
  assert _texts(_generate(lm, seed=2)) != first


def test_samples_of_a_prompt_differ_and_do_not_depend_on_its_neighbours(lm):
  first = _texts(_generate(lm, temperature=2.0))
  assert len(set(first[0])) > 1
  alone = _texts(_generate(lm, _PROMPTS[:1], temperature=2.0))
  assert alone == first[:1]


def test_greedy_samples_do_not_differ(lm):
  for row in _texts(_generate(lm, temperature=0.0)):
    assert len(set(row)) == 1


def test_greedy_is_the_argmax_of_the_logits(lm):
  prompt = "What is the capital of Peru?"
  [[found]] = lm.generate([prompt], temperature=0.0, max_new_tokens=3)
  tokens = list(lm.tokenizer(prompt)["input_ids"])
  for token in found.tokens:
    logits = lm.logits(np.array([tokens]))
    assert token == int(jnp.argmax(logits[0, -1]))
    tokens.append(token)


def test_chat_puts_the_prompt_into_the_template(lm):
  message = {"role": "user", "content": _PROMPTS[0]}
  rendered = lm.chat_template.prompt([message])
  assert rendered == f"user:{_PROMPTS[0]}<|im_end|>assistant:"
  options = {"temperature": 0.0, "max_new_tokens": 6}
  asked = lm.generate(_PROMPTS[:1], chat=True, **options)
  assert _texts(asked) == _texts(lm.generate([rendered], **options))
  [[found]] = asked
  expected = lm.tokenizer(rendered)["input_ids"]
  first = lm.logits(np.array([expected]))[0, -1]
  assert found.tokens[0] == int(jnp.argmax(first))


def test_a_prompt_may_stand_alone(lm):
  assert _generate(lm, _PROMPTS[0]) == _generate(lm, _PROMPTS[:1])
  assert _generate(lm, _PROMPTS[0], chat=True) == _generate(
    lm, _PROMPTS[:1], chat=True
  )


def test_a_stop_string_may_stand_alone(lm):
  def drawn(stop):
    return lm.generate(_PROMPTS, max_new_tokens=6, stop=stop)

  one, other = drawn(" Lima"), drawn([" Lima"])
  assert one == other
  replies = [row[0] for row in one]
  assert any(reply.finish_reason == "stop" for reply in replies)
  assert not any("Lima" in reply.text for reply in replies)


def test_logits_are_those_of_the_network(lm, ids):
  logits = lm.logits(ids)
  assert logits.shape == (2, 24, lm.config.vocab_size)
  assert logits.dtype == jnp.float32
  llama, params = Llama(lm.config), {"params": lm.params}
  steps = jnp.broadcast_to(jnp.arange(24), ids.shape)
  hidden, _ = llama.apply(params, jnp.asarray(ids), steps)
  expected = llama.apply(params, hidden, method=Llama.logits)
  np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_logits_look_at_no_later_token(lm, ids):
  changed = ids.copy()
  changed[:, 12:] = (changed[:, 12:] + 1) % 256
  one, other = np.asarray(lm.logits(ids)), np.asarray(lm.logits(changed))
  np.testing.assert_allclose(one[:, :12], other[:, :12], atol=1e-4)
  assert np.abs(one[:, 12:] - other[:, 12:]).max() > 1.0


def test_logits_of_one_sequence(lm, ids):
  one = lm.logits(ids[0])
  np.testing.assert_allclose(one[0], lm.logits(ids)[0], atol=1e-4)


def test_a_saved_model_loads_as_the_same(lm, ids, tmp_path):
  lm.save_pretrained(tmp_path / "saved")
  again = LanguageModel.load(tmp_path / "saved", "float32")
  assert again.config == lm.config
  np.testing.assert_array_equal(again.logits(ids), lm.logits(ids))
  assert _texts(_generate(again)) == _texts(_generate(lm))
  with pytest.raises(UserError, match="exists already"):
    lm.save_pretrained(tmp_path / "saved")


def test_a_saved_model_names_all_ends_of_a_reply(folder, tmp_path):
  """As a chat model's whose text ends with another token than its turns."""
  lm = LanguageModel.load(folder, "float32")
  turn = lm.tokenizer.eos_token_id
  lm.tokenizer.eos_token = "~"
  lm.save_pretrained(tmp_path / "saved")
  text = (tmp_path / "saved" / "generation_config.json").read_text()
  both = {lm.tokenizer.convert_tokens_to_ids("~"), turn}
  assert set(json.loads(text)["eos_token_id"]) == both


def test_a_prompt_longer_than_the_window(lm):
  with pytest.raises(UserError, match="a prompt of 600 tokens .* of 512"):
    lm.generate(["x" * 600], max_new_tokens=4)
  with pytest.raises(UserError, match="513 tokens do not fit .* 512"):
    lm.logits(np.zeros((1, 513), np.int32))


def test_a_model_that_is_not_there(tmp_path, monkeypatch):
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  with pytest.raises(UserError, match="no-such-model"):
    LanguageModel.load(tmp_path / "no-such-model")


@pytest.fixture(scope="module")
def task():
  """As much of one as thinking needs, with prompts that are short in bytes."""
  prompts = {
    "extract": Template("Copy: {text}", max_new_tokens=4),
    "system1": Template("Say: {text}", max_new_tokens=6),
  }
  return types.SimpleNamespace(name="facts", prompts=prompts)


def _replies(passes):
  return [[one.replies for one in row] for row in passes]


def test_think_shows_its_steps(lm, task):
  inputs = [{"text": "Peru?"}, {"text": "Chile?"}]
  passes = lm.think(inputs, task, "s2a", n=2)
  assert [len(row) for row in passes] == [2, 2]
  for fields, row in zip(inputs, passes, strict=True):
    for one in row:
      extract, answer = one.steps
      assert f"Copy: {fields['text']}" in extract.prompt
      said = extract.completion.text.strip() or fields["text"]
      assert f"Say: {said}" in answer.prompt
      assert one.replies == [answer.completion.text]
      assert one.tokens == sum(len(s.completion.tokens) for s in one.steps)


def test_another_seed_thinks_otherwise(lm, task):
  inputs = [{"text": "Peru?"}, {"text": "Chile?"}]
  draw = lambda seed: _replies(
    lm.think(inputs, task, "system1", n=2, temperature=2.0, seed=seed)
  )
  first = draw(0)
  assert draw(0) == first
  assert draw(1) != first


def test_not_to_think_is_to_generate(lm, task):
  [[one]] = lm.think([{"text": "Peru?"}], task, "system1", temperature=0.0)
  assert lm.think({"text": "Peru?"}, task, "system1", temperature=0.0) == [
    [one]
  ]
  asked = lm.generate(
    ["Say: Peru?"], chat=True, temperature=0.0, max_new_tokens=6
  )
  assert [one.replies] == _texts(asked)


def test_a_method_that_does_not_exist(lm, task):
  with pytest.raises(UserError, match="method='s2b' is unknown"):
    lm.think([{"text": "Peru?"}], task, "s2b")


def test_a_model_thinks_where_its_own_chat_has_thinking_off(tmp_path):
  prompts = override(think.PROMPTS, {"think": {"max_new_tokens": 6}})
  task = types.SimpleNamespace(name="facts", prompts=prompts)
  folder = tiny_chat.write_thinking(tmp_path / "model")
  lm = LanguageModel.load(folder, "float32", {"enable_thinking": False})
  [[result]] = lm.think({"text": "?", "format": "a word"}, task, "think")
  asked = result.steps[0].prompt
  assert asked.endswith("assistant:")
  question = [{"role": "user", "content": "?\n\nAnswer with a word only."}]
  off = lm.chat_template.prompt(question)
  assert off == asked + "<think>\n\n</think>\n\n"
  with pytest.raises(UserError, match="enable_thinking is on for them, too"):
    LanguageModel.load(folder).think({"text": "?"}, task, "think")

"""Answers to the harness, against those of its own Hugging Face backend.

The goldens are made by tests/goldens/make_lm_eval_goldens.py.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import types

import pytest

pytest.importorskip("lm_eval")

from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from s2d_jax import lm_eval as adapter  # noqa: E402
from s2d_jax.checkpoints import hf  # noqa: E402
from s2d_jax.errors import UserError  # noqa: E402
from tests import tiny_chat  # noqa: E402

_GOLDENS = pathlib.Path(__file__).parent / "goldens"
_FOUND = json.loads((_GOLDENS / "lm_eval" / "goldens.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("lm_eval") / "model"
  shutil.copytree(_GOLDENS / "llama3_gqa", folder)
  shutil.copytree(_GOLDENS / "lm_eval", folder, dirs_exist_ok=True)
  return folder


@pytest.fixture(scope="module")
def evaluated(folder, tmp_path_factory):
  tasks = tmp_path_factory.mktemp("tasks")
  data = tasks / "docs.jsonl"
  data.write_text("".join(json.dumps(doc) + "\n" for doc in _FOUND["docs"]))
  for task, text in _FOUND["tasks"].items():
    filled = text.format(name=f"s2d_{task}", data=data)
    (tasks / f"{task}.yaml").write_text(filled)
  return simple_evaluate(
    "s2d_jax",
    model_args={"pretrained": str(folder), "dtype": "float32"},
    tasks=[f"s2d_{task}" for task in _FOUND["tasks"]],
    batch_size=4,
    task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
    bootstrap_iters=0,
  )


def _samples(evaluated, task: str) -> list:
  rows = sorted(evaluated["samples"][task], key=lambda row: row["doc_id"])
  return [row["filtered_resps"] for row in rows]


def test_likelihoods_of_continuations(evaluated):
  found = _samples(evaluated, "s2d_choice")
  for row, expected in zip(found, _FOUND["samples"]["s2d_choice"], strict=True):
    for (logprob, greedy), (wanted, is_greedy) in zip(
      row, expected, strict=True
    ):
      assert float(logprob) == pytest.approx(float(wanted), abs=1e-3)
      assert str(greedy) == str(is_greedy)


def test_greedy_replies(evaluated):
  assert (
    _samples(evaluated, "s2d_written") == (_FOUND["samples"]["s2d_written"])
  )


def test_texts_longer_than_the_window(evaluated):
  found = _samples(evaluated, "s2d_read")
  for row, expected in zip(found, _FOUND["samples"]["s2d_read"], strict=True):
    assert list(map(float, row)) == pytest.approx(
      list(map(float, expected)), abs=2e-3
    )


def test_the_table_of_results(evaluated):
  for task, metrics in _FOUND["results"].items():
    for metric, value in metrics.items():
      found = evaluated["results"][task][metric]
      assert found == pytest.approx(value, rel=1e-4), (task, metric)


def _ask(kind: str, *arguments) -> list[Instance]:
  return [
    Instance(kind, doc={}, arguments=one, idx=i)
    for i, one in enumerate(arguments)
  ]


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory) -> adapter.S2dJax:
  folder = tiny_chat.write(tmp_path_factory.mktemp("chat") / "model")
  return adapter.S2dJax(str(folder), "float32", batch_size=4)


def test_the_reply_is_the_greedy_continuation(chat_model):
  """What was generated is scored as what would be generated."""
  history = [{"role": "user", "content": "Which?"}]
  prompt = chat_model.apply_chat_template(history)
  assert prompt == "user:Which?<|im_end|>assistant:"
  wishes = {"until": ["~"], "max_gen_toks": 3}
  [reply] = chat_model.generate_until(
    _ask("generate_until", (prompt, wishes)), disable_tqdm=True
  )
  assert reply
  other = " Oslo" if reply.startswith(" Lima") else " Lima"
  [(best, is_greedy), (worse, is_other)] = chat_model.loglikelihood(
    _ask("loglikelihood", (prompt, reply), (prompt, other * 3)),
    disable_tqdm=True,
  )
  assert is_greedy and not is_other and best > worse


def test_repeats_of_a_sampled_request_differ(chat_model):
  wishes = {
    "until": [], "max_gen_toks": 12, "do_sample": True, "temperature": 2.0,
  }  # fmt: skip
  twice = _ask("generate_until", ("Which?", wishes), ("Which?", wishes))
  first, second = chat_model.generate_until(twice, disable_tqdm=True)
  assert first != second
  assert chat_model.generate_until(twice, disable_tqdm=True) == [first, second]


def test_a_continuation_may_be_continued_by_the_model(chat_model):
  history = [
    {"role": "user", "content": "Which?"},
    {"role": "assistant", "content": "It is"},
  ]
  text = chat_model.apply_chat_template(history, add_generation_prompt=False)
  assert text.endswith("It is")


def test_thinking_may_be_off(tmp_path):
  folder = tiny_chat.write_thinking(tmp_path / "model")
  history = [{"role": "user", "content": "Which?"}]
  asked = {
    thinks: adapter.S2dJax(
      str(folder), "float32", enable_thinking=thinks
    ).apply_chat_template(history)
    for thinks in (None, True, False)
  }
  assert asked[None] == asked[True]
  assert asked[False] == asked[True] + "<think>\n\n</think>\n\n"
  # The harness goes on behind what the student has learnt to answer.
  history.append({"role": "assistant", "content": "It"})
  model = adapter.S2dJax(str(folder), "float32", enable_thinking=False)
  begun = model.apply_chat_template(history, add_generation_prompt=False)
  assert begun == asked[False] + "It"


@pytest.mark.parametrize("bos", [None, tiny_chat.END])
def test_a_tokenizer_without_an_end_of_text(chat_model, tmp_path, bos):
  tiny, tokenizer = tiny_chat.model(), tiny_chat.tokenizer()
  tokenizer.bos_token, tokenizer.eos_token = bos, None
  tokenizer.chat_template = None
  hf.write(tmp_path / "model", tiny.config, tiny.params, tokenizer)
  model = adapter.S2dJax(str(tmp_path / "model"), "float32", batch_size=4)
  assert model.tokenizer.eos_token_id is None
  wishes = {"until": ["Oslo"], "max_gen_toks": 3}
  asked = _ask("generate_until", ("Which?", wishes), ("x", wishes))
  scored = _ask("loglikelihood", ("Which?", " Lima"), ("a ", "b"))
  replies = model.generate_until(asked, disable_tqdm=True)
  # The other model ends there: the same replies, gone on with.
  ended = chat_model.generate_until(asked, disable_tqdm=True)
  assert any(ended) and replies != ended
  assert all(map(str.startswith, replies, ended))
  answers = model.loglikelihood(scored, disable_tqdm=True)
  expected = chat_model.loglikelihood(scored, disable_tqdm=True)
  assert answers == [pytest.approx(answer) for answer in expected]
  empty = _ask("loglikelihood", ("", " Lima"))
  if bos is None:
    with pytest.raises(UserError, match="prefix_token_id=…"):
      model.loglikelihood(empty, disable_tqdm=True)
  else:
    found = model.loglikelihood(empty, disable_tqdm=True)
    assert found == chat_model.loglikelihood(empty, disable_tqdm=True)


class _FakeSolver:
  """Says back what it was asked, and how."""

  def answer(self, texts, *, budget, quiet):
    said = [f"{text}, {budget} tokens; or more" for text in texts]
    return [types.SimpleNamespace(text=text) for text in said]


def test_a_run_answers_by_its_gate(chat_model, folder, monkeypatch):
  """With its own prompts: what the harness brings is a question."""
  opened = []
  load = lambda *given: opened.append(given) or _FakeSolver()
  monkeypatch.setattr(adapter.Solver, "load", load)
  for gate, told in ((40, "40.0"), ("run", "None")):
    model = adapter.S2dJax(str(folder), "float32", gate=gate)
    asked = [{"role": "user", "content": "Which?"}]
    text = model.apply_chat_template(asked)
    wishes = {"until": ["\n", ";"], "max_gen_toks": 3}
    requests = _ask("generate_until", (text, wishes), ("Who?", {}))
    assert model.generate_until(requests, disable_tqdm=True) == [
      f"Which?, {told} tokens", f"Who?, {told} tokens; or more",
    ]  # fmt: skip
    with pytest.raises(UserError, match="leave out --system_instruction"):
      model.apply_chat_template([{"role": "system", "content": "x"}, *asked])
    scored = _ask("loglikelihood", ("Which?", " Lima"))
    with pytest.raises(UserError, match="this benchmark scores given"):
      model.loglikelihood(scored, disable_tqdm=True)
  assert opened == [(str(folder), "float32")] * 2
  with pytest.raises(UserError, match="gate='much' must be a budget"):
    adapter.S2dJax(str(folder), gate="much")


def test_mistakes_are_one_sentence(folder, monkeypatch, capsys):
  for options, said in (
    ({"batch_size": "many"}, "batch_size='many' must be a number or auto"),
    ({"max_length": 512}, "max_length=512 must be from 2 to .* of 256"),
    ({"pretrianed": "x"}, "--model_args pretrianed=… is unknown"),
    ({"dtype": "float8"}, "dtype='float8' must be one of"),
  ):
    with pytest.raises(UserError, match=said):
      adapter.S2dJax(str(folder), **options)
  monkeypatch.setattr(
    adapter.harness, "cli_evaluate", lambda: adapter.S2dJax("no-such-model")
  )
  with pytest.raises(SystemExit) as ended:
    adapter.main()
  assert ended.value.code == 1
  said = capsys.readouterr().err.splitlines()
  [line] = [line for line in said if line.startswith("error: ")]
  assert line.startswith("error: model no-such-model is neither")

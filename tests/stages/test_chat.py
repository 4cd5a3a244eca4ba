from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil

import pytest
from rich.console import Console

from s2d_jax import LanguageModel
from s2d_jax.errors import UserError
from s2d_jax.stages import chat, chat_models, gated, setup
from s2d_jax.stages.gated import GatedRun
from s2d_jax.tasks.registry import make_task
from tests import tiny_chat
from tests.stages import gates

_QUESTION = "What is the capital of Peru?"
_BASE, _THOUGHT, _DISTILLED = (
  "base, System 1", "base, System 2 (s2a)", "distilled, System 1",
)  # fmt: skip


def _chat(name, method=None, n=1, temperature=None) -> chat_models.Chat:
  models = chat_models.chat_setup(str(name), "float32")
  return chat_models.Chat(models, method, n, temperature)


def _quietly(shown) -> None:
  """Sees nothing."""


@pytest.fixture(scope="module")
def of_run(finished) -> chat_models.Chat:
  return _chat(finished)


@pytest.fixture(scope="module")
def of_model(cache, tmp_path_factory) -> chat_models.Chat:
  return _chat(tiny_chat.write(tmp_path_factory.mktemp("chat") / "model"))


@pytest.fixture
def person(monkeypatch):
  """Types lines, and gives what the terminal shows."""

  def type_in(chatting, *lines, width=80) -> str:
    typed = iter(lines)

    def read(prompt):
      assert prompt == "> "
      line = next(typed, None)
      if line is None:
        raise EOFError
      return line

    monkeypatch.setattr("builtins.input", read)
    screen = Console(file=io.StringIO(), width=width)
    assert chat.converse(chatting, True, screen) == 0
    return screen.file.getvalue()

  return type_in


def _pipe(chatting, monkeypatch, text) -> int:
  monkeypatch.setattr("sys.stdin", io.StringIO(text))
  return chat.converse(chatting, False, Console())


def test_three_columns_of_a_run(of_run, finished, config):
  """Each is what its model says by itself to the run's own prompt."""
  answers = of_run.ask(_QUESTION, _quietly)
  assert list(answers) == [_BASE, _THOUGHT, _DISTILLED]
  template = setup.task_of(config).prompts["system1"]
  for title, name in (_BASE, config.model.name), (_DISTILLED, finished):
    lm = LanguageModel.load(name, "float32")
    prompt = lm.chat_template.prompt(template.messages(text=_QUESTION))
    [[expected]] = lm.generate(
      [prompt], temperature=0.0, max_new_tokens=4, stop=template.stop
    )
    assert answers[title].text == expected.text.strip()
    assert answers[title].tokens == len(expected.tokens)
    assert answers[title].steps == []
  # The extraction is shown, and was paid for.
  assert len(answers[_THOUGHT].steps) == 1
  assert answers[_THOUGHT].tokens >= 2
  assert all(answer.seconds > 0 for answer in answers.values())


@pytest.mark.parametrize("width", [80, 140])
def test_a_person_sees_them_side_by_side(of_run, person, width):
  seen = person(of_run, "", _QUESTION, width=width).splitlines()
  assert max(map(len, seen)) <= width
  heads = [line for line in seen if _BASE in line]
  assert len(heads) == 1 and _THOUGHT in heads[0] and _DISTILLED in heads[0]
  costs = [line for line in seen if " tokens, " in line]
  assert sum(line.count(" tokens, ") for line in costs) == 3


def test_a_pipe_gets_plain_text(of_model, monkeypatch, capsys):
  assert _pipe(of_model, monkeypatch, f"{_QUESTION}\n\n") == 0
  out, err = capsys.readouterr()
  assert err == ""
  head, *lines = out.splitlines()
  assert head == f"Question: {_QUESTION}"
  assert lines[0].startswith("System 1 (") and "tokens" in lines[0]
  assert any(line.startswith("System 2 (s2a) (") for line in lines)
  assert "> " not in out and "\x1b" not in out


def test_a_question_that_does_not_fit_does_not_end_the_chat(
  of_model, monkeypatch, capsys
):
  asked = of_model.ask(_QUESTION, _quietly)
  assert _pipe(of_model, monkeypatch, f"{'x' * 600}\n{_QUESTION}\n") == 1
  out, err = capsys.readouterr()
  assert len(err.splitlines()) == 1
  assert "do not fit the model's window of 512" in err
  assert asked["System 1"].text in out


def test_text_is_shown_as_it_comes(of_model):
  seen = []
  answers = of_model.ask(
    _QUESTION, lambda shown: seen.append(shown["System 1"].text)
  )
  whole = answers["System 1"].text
  assert answers["System 1"].tokens > 16  # several looks
  before = [text for text in seen if text and text != whole]
  assert before and all(whole.startswith(text.strip()) for text in before)
  assert sorted(map(len, before)) == list(map(len, before))


def test_ctrl_c_stops_the_answer_only(of_model, person, capsys):
  def interrupt(shown):
    if shown["System 1"].text:
      raise KeyboardInterrupt

  expected = of_model.ask(_QUESTION, _quietly)
  with pytest.raises(KeyboardInterrupt):
    of_model.ask(_QUESTION, interrupt)
  again = of_model.ask(_QUESTION, _quietly)
  for title, answer in expected.items():
    assert (again[title].text, again[title].tokens) == (
      answer.text, answer.tokens,
    )  # fmt: skip


def test_commands(cache, config, person, capsys):
  chatting = _chat(config.model.name)
  person(chatting, "/help", "/method rar1", "/n 3", "/nonsense", "/method x",
         "/n 0", "/quit", "never read")  # fmt: skip
  out, err = capsys.readouterr()
  assert "(now s2a)" in out and "(now 1)" in out
  # bsm compares two answers, and cot_few_shot has worked examples of a task.
  methods = out.partition("thinks: ")[2].partition(" (now")[0].split(", ")
  assert {"cot", "rar1", "rar2", "s2a"} <= set(methods)
  assert not {"bsm", "usc", "cot_few_shot", "system1"} & set(methods)
  assert (chatting.method, chatting.n) == ("rar1", 3)
  # Where the model was not there yet, it has told so before.
  told = [line for line in err.splitlines() if line.startswith("error: ")]
  unknown, method, n = told
  assert unknown == "error: /nonsense is no command; /help lists them"
  assert "method='x'" in method and "rar2" in method
  assert n == "error: n=0 must be 1 or more"


def test_several_samples_vote(of_model):
  chatting = chat_models.Chat(of_model.setup, "rar1", 3, 0.0)
  answers = chatting.ask(_QUESTION, _quietly)
  [title] = [title for title in answers if "rar1" in title]
  alone = chat_models.Chat(of_model.setup, "rar1", 1, 0.0).ask(
    _QUESTION, _quietly
  )
  assert answers[title].note == "3 of 3 samples agree"
  assert answers[title].text == alone[title].text
  assert answers[title].tokens == 3 * alone[title].tokens


@pytest.fixture(scope="module")
def gated_run(finished, tmp_path_factory) -> GatedRun:
  folder = tmp_path_factory.mktemp("gated") / "run"
  gate = gates.make([-8.0, -4.0, -2.0, -1.0])
  return gated.open_run(gates.give(finished, folder, gate), "float32")


@pytest.mark.parametrize("least, way", [(-1e18, "direct"), (1e18, "thought")])
def test_a_gate_has_a_column(of_run, gated_run, least, way, monkeypatch):
  gate = dataclasses.replace(gated_run.gate, least=least)
  run = dataclasses.replace(gated_run, gate=gate)
  monkeypatch.setattr(of_run, "_gated", run)
  answers = of_run.ask(_QUESTION, _quietly)
  assert list(answers) == [_BASE, _THOUGHT, _DISTILLED, "gated"]
  assert re.fullmatch(
    rf"\d+ tokens, \d+\.\d s, {way}, (as )?System 2 would say the same with"
    r" \d+%",
    answers["gated"].cost,
  )
  fast = answers[_DISTILLED]
  if way == "direct":
    assert answers["gated"].text == fast.text
    assert answers["gated"].tokens == fast.tokens
  else:
    assert answers["gated"].tokens > fast.tokens
  with pytest.raises(UserError, match="the question: the task sycophancy"):
    of_run.ask("Who are you?", _quietly)


def test_prompts_are_those_of_the_run(finished, tmp_path):
  """The options of its template, and the day on which it began."""
  run = shutil.copytree(finished, tmp_path / "run")
  path = run / "config.json"
  config = json.loads(path.read_text())
  config["model"] |= {"chat": {"word": "So"}, "date": "2024-07-06"}
  path.write_text(json.dumps(config))
  chat_setup = chat_models.chat_setup(str(run))
  model = tiny_chat.model()
  model.tokenizer.chat_template = "{{ word }} {{ strftime_now('%d %b %Y') }}"
  chatting = setup.chat_template(chat_setup.config, model)
  assert chatting.prompt([{"role": "user", "content": "?"}]) == "So 06 Jul 2024"


def test_a_method_that_needs_to_know_the_question(config):
  """As decomposition needs the parts of it, which the task finds."""
  config = config.copy_and_resolve_references()
  config.method = "decompose"
  with config.unlocked():
    config.prompts = {}
  task = make_task("same_continent", {})
  asks = "Are Peru and Fiji on the same continent?"
  known = chat_models.ChatSetup(config, None, task, "yes or no", asks)
  assert {"decompose", "cot"} <= set(known.methods)
  assert known.fields(asks)["parts"] == "Peru\nFiji"
  known.check("decompose", asks)
  known.check("cot", "Who are you?")
  with pytest.raises(UserError, match="needs more than this question; ask as"):
    known.check("decompose", "Who are you?")
  unknown = dataclasses.replace(known, example="?")
  assert "decompose" not in unknown.methods


def test_a_model_that_nobody_knows(cache):
  with pytest.raises(UserError, match="no-such-model is neither a folder"):
    _chat("no-such-model")


def test_a_run_that_has_learnt_nothing(tmp_path, config):
  (tmp_path / "examples").mkdir()
  (tmp_path / "config.json").write_text(json.dumps({"model": {"name": "x"}}))
  with pytest.raises(UserError, match="has no checkpoint yet"):
    _chat(tmp_path)

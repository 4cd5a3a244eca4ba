"""A run that answers: what it says is what its evaluation has."""

from __future__ import annotations

import json

from etils import epath
import pytest

import s2d_jax
from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.gate import rows as gate_rows
from s2d_jax.gate.confidence import SIGNALS, confidence
from s2d_jax.stages import gated, setup
from s2d_jax.stages.answer_file import Files, answer, settings_of
from s2d_jax.tasks.task import read_examples
from tests.stages import gates


def _rows(run, name: str, method: str) -> dict[tuple[str, str], records.Record]:
  return {
    (row["example_id"], row["variant"]): row
    for row in records.read(run / "eval" / f"{name}.jsonl")
    if row["method"] == method
  }


@pytest.fixture(scope="module")
def direct(with_controls) -> dict[tuple[str, str], records.Record]:
  return _rows(with_controls, "distilled", "system1")


@pytest.fixture(scope="module")
def thought(with_controls) -> dict[tuple[str, str], records.Record]:
  return _rows(with_controls, "base", "s2a")


@pytest.fixture(scope="module", params=SIGNALS)
def run(request, with_controls, direct, tmp_path_factory) -> epath.Path:
  """A run whose gate lets half of the test inputs pass, by each signal."""
  gate = gates.make(_confidences(request.param, direct), request.param)
  return gates.give(with_controls, tmp_path_factory.mktemp("gated") / "a", gate)


@pytest.fixture(scope="module")
def by_logprob(with_controls, direct, tmp_path_factory) -> epath.Path:
  folder = tmp_path_factory.mktemp("gated") / "b"
  gate = gates.make(_confidences("logprob", direct))
  return gates.give(with_controls, folder, gate)


def _confidences(signal: str, direct) -> list[float]:
  rows = direct.values()
  return [confidence(signal, row["greedy"], row["passes"]) for row in rows]


def _asked(run) -> dict[tuple[str, str], records.Record]:
  examples = read_examples(run / "examples" / "test.jsonl")
  variants = ("plain", "suggests_wrong", "suggests_right", "denies_right")
  return {
    (one.id, variant): {"inputs": one.inputs, "variant": variant}
    for one in examples
    for variant in variants
  }


def test_answers_to_test_inputs_are_those_of_the_evaluation(
  run, direct, thought
):
  before = sorted(str(path) for path in run.glob("*"))
  asked = _asked(run)
  assert set(asked) == set(direct)
  gate = gated.open_run(run).gate
  used = SIGNALS[gate.signal].samples
  found = s2d_jax.Solver.load(run).answer(list(asked.values()))
  thinks = 0
  for one, name in zip(found, asked, strict=True):
    row = gate_rows.gated(gate, direct[name], thought[name])
    [reply] = row["passes"]
    assert reply == pytest.approx(
      {key: getattr(one, key) for key in reply if key != "tier"}
      | {"tier": reply["tier"]}
    )
    assert row["probability"] == pytest.approx(one.probability, abs=1e-3)
    greedy, samples = direct[name]["greedy"], direct[name]["passes"][:used]
    fast = sum(reply["tokens"] for reply in [greedy, *samples])
    read = sum(reply["prompt_tokens"] for reply in [greedy, *samples])
    sure = confidence(gate.signal, greedy, samples)
    assert one.confidence == pytest.approx(sure, abs=2e-4)
    assert one.thought == (sure < gate.least)
    if not one.thought:
      assert (one.text, one.answer) == (greedy["text"], greedy["answer"])
      assert (one.tokens, one.prompt_tokens, one.votes) == (fast, read, None)
      continue
    thinks += 1
    vote = thought[name]["vote"]
    assert one.answer == vote["answer"]
    assert one.tokens == fast + vote["tokens"]
    assert one.prompt_tokens == read + vote["prompt_tokens"]
    answers = [reply["answer"] for reply in thought[name]["passes"]]
    assert dict(one.votes) == {a: answers.count(a) for a in answers if a}
    saying = [
      reply["text"]
      for reply in thought[name]["passes"]
      if reply["answer"] == vote["answer"]
    ]
    assert one.text == next(iter(saying), "")
  assert 0 < thinks < len(asked)
  assert sorted(str(path) for path in run.glob("*")) == before


def test_a_test_question_may_be_asked_as_text(by_logprob, direct):
  run = gated.open_run(by_logprob)
  solver = s2d_jax.Solver(run)
  asked = _asked(by_logprob)
  name = min(direct, key=lambda name: direct[name]["greedy"]["logprob"])
  examples = read_examples(by_logprob / "examples" / "test.jsonl")
  [example] = [one for one in examples if one.id == name[0]]
  text = run.task.fields(example, name[1])["text"]
  [expected] = solver.answer([asked[name]])
  assert expected.thought
  assert solver.answer(text) == [expected]
  assert solver.answer([{"text": text, "id": 7}]) == [expected]


def test_an_answer_depends_on_its_question_alone(by_logprob):
  solver = s2d_jax.Solver.load(by_logprob)
  text = "What is the capital of Peru?"
  [alone] = solver.answer(text, agreement=1.0)
  others = [f"What is the capital of {name}?" for name in ("Fiji", "Chad")]
  among = solver.answer([*others, text, text], agreement=1.0)
  assert alone.thought and among[2:] == [alone, alone]
  assert solver.answer([]) == []


def test_a_file_has_the_answers_of_the_notebook(by_logprob, tmp_path):
  run = gated.open_run(by_logprob)
  asked = [
    *_asked(by_logprob).values(),
    {"text": "What is the capital of Peru?"},
  ]
  files = Files(tmp_path / "questions.jsonl", epath.Path(tmp_path) / "a.jsonl")
  records.write(files.questions, asked)
  summary = answer(run, files, settings_of(run))
  found = [row["answered"] for row in records.read(files.output)]
  expected = s2d_jax.Solver(run).answer(asked)
  assert found == [one.to_record() for one in expected]
  assert f"9 answers, {sum(one.thought for one in expected)} thought" in summary


def test_working_points(by_logprob, direct):
  solver = s2d_jax.Solver.load(by_logprob)
  asked = list(_asked(by_logprob).values())
  share = lambda **point: sum(
    one.thought for one in solver.answer(asked, **point)
  )
  # By hand: a direct answer takes 4 tokens, a vote 20, for 8 inputs.
  assert len(asked) == 8
  values = sorted(_confidences("logprob", direct))
  below = lambda place: sum(one < values[place] for one in values)
  assert 0 < below(3) < below(4) < 8
  assert share() == below(4)
  assert share(budget=4) == share(agreement=0.0) == 0
  assert share(budget=24) == 8
  assert share(budget=4 + 20 * 3 / 8) == below(3)
  assert share(agreement=5 / 8) == below(5)
  for point, said in (
    ({"budget": 0}, "budget=0 must be more than 0 tokens"),
    ({"budget": float("nan")}, "budget=nan must be more than 0 tokens"),
    ({"budget": 3.9}, "less than the 4.0 that a direct answer takes"),
    ({"budget": 9, "agreement": 0.5}, "a budget or an agreement, not both"),
    ({"agreement": 90}, "agreement=90 must be a probability, from 0 to 1"),
  ):
    with pytest.raises(UserError, match=said):
      solver.answer(asked, **point)


def test_both_models_stay_if_they_are_small(by_logprob, monkeypatch):
  loaded = []
  for name in ("distilled_model", "base_model"):
    load = getattr(setup, name)
    monkeypatch.setattr(
      setup,
      name,
      lambda *given, name=name, load=load: loaded.append(name) or load(*given),
    )
  text = "What is the capital of Peru?"
  solver = s2d_jax.Solver.load(by_logprob)
  for _ in range(2):
    solver.answer(text, agreement=1.0)
  assert loaded == ["distilled_model", "base_model"]
  monkeypatch.setattr("s2d_jax.solver._MOST_WEIGHTS", 1)
  solver = s2d_jax.Solver.load(by_logprob)
  for _ in range(2):
    solver.answer(text, agreement=1.0)
  assert loaded[2:] == ["distilled_model", "base_model"] * 2


def test_what_does_not_fit_the_window_has_no_answer(by_logprob):
  text = f"What is the capital of {'Peru' * 200}?"
  [found] = s2d_jax.Solver.load(by_logprob).answer(text)
  assert found.thought and found.answer is None and found.text == ""
  assert found.too_long > 512 and found.tokens == 0


def test_questions_that_the_task_does_not_know(by_logprob):
  solver = s2d_jax.Solver.load(by_logprob)
  with pytest.raises(UserError, match="sycophancy does not know") as error:
    solver.answer(["What is the capital of Peru?", "Who are you?"])
  said = str(error.value)
  assert said.startswith("texts[1]: ") and "kind, country, question" in said
  with pytest.raises(UserError, match="texts.0. has neither 'text'"):
    solver.answer([7])


def test_runs_that_cannot_answer(finished, with_controls, config, tmp_path):
  load = s2d_jax.Solver.load
  for name in (tmp_path / "nothing", config.model.name):
    with pytest.raises(UserError, match="is not the folder of a run"):
      load(name)
  why = "has no gate to answer by, as evaluation.controls is off; `s2d chat`"
  with pytest.raises(UserError, match=why):
    load(finished)
  run = gates.give(with_controls, tmp_path / "run", gates.make([0.0, 1.0]))
  (run / "gate.json").unlink()
  with pytest.raises(UserError, match="has no gate yet; run `s2d gate`"):
    load(run)
  (run / "gate.json").write_text("{")
  with pytest.raises(UserError, match="gate.json is empty, cut or other JSON"):
    load(run)
  run = gates.give(with_controls, tmp_path / "other", gates.make([0.0, 1.0]))
  record = json.loads((run / "model.json").read_text())
  (run / "model.json").write_text(json.dumps(record | {"weights": "others"}))
  with pytest.raises(UserError, match="was begun with another model"):
    load(run)
  (run / "checkpoints").rename(run / "gone")
  with pytest.raises(UserError, match="has no checkpoint yet"):
    load(run)


def test_the_package_has_it():
  assert s2d_jax.Solver.__module__ == "s2d_jax.solver"
  with pytest.raises(AttributeError, match="no attribute 'Solve'"):
    s2d_jax.Solve  # noqa: B018

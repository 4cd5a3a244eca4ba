"""Files of questions, answered by a run whose models say what is made up."""

from __future__ import annotations

import collections
import json
import threading
from typing import NamedTuple

from etils import epath
import pytest

from s2d_jax import records
from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.parallel import hosts
from s2d_jax.stages import answer_file, evaluate, setup
from s2d_jax.stages.evaluate import Replies
from s2d_jax.stages.gated import GatedRun
from s2d_jax.stages.inputs import Inputs
from s2d_jax.stages.shards import RecordShards
from s2d_jax.tasks.registry import make_task
from tests.stages import gates

_COUNT = 23


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> GatedRun:
  folder = tmp_path_factory.mktemp("answer")
  rows = [{"q": f"Is {n} even?", "a": "yes"} for n in range(100, 106)]
  records.write(folder / "rows.jsonl", rows)
  options = {
    "train": str(folder / "rows.jsonl"),
    "prompt": "{q}",
    "answer": {"kind": "choice", "options": ("yes", "no")},
    "valid_size": 2,
    "test_size": 2,
  }
  task = make_task("custom", options)
  config = default()
  config.method, config.evaluation.n = "cot", 3
  inputs = Inputs(task, task.examples()["test"])
  # A direct answer about a number of up to 5 stands, as it is fake.
  gate = gates.make([-n for n in range(10)], least=-5.0)
  return GatedRun(epath.Path(folder), config, task, inputs, gate)


def _number(text: str) -> int:
  return int(text.split()[1])


def _says(text: str, answer: str | None, tokens: int) -> dict:
  found = {"text": text, "answer": answer, "tier": answer and "strict"}
  return found | {"tokens": tokens, "prompt_tokens": 10}


@pytest.fixture(autouse=True)
def models(monkeypatch) -> list[str]:
  """Fast: "no", the less sure the larger the number. Slow: 2 of 3 say "yes"."""
  asked = []

  def draw(config, model, task, examples, inputs, shown):
    for how, (example_id, variant) in reversed(list(inputs)):
      asked.append(f"{model} {example_id}")
      text = task.fields(examples[example_id], variant)["text"]
      shown.advance(how.replies)
      if how.is_greedy:
        greedy = _says("No.", "no", 2) | {"logprob": float(-_number(text))}
        yield how, (example_id, variant), Replies([], greedy)
      elif _number(text) == 13:
        long = _says("", None, 0) | {"too_long": 999}
        yield how, (example_id, variant), Replies([long] * how.n, None)
      else:
        votes = [_says("It is.", "yes", 11), _says("Yes!", "yes", 11)]
        votes.insert(0, _says("Odd: no", "no", 12))
        yield how, (example_id, variant), Replies(votes, None)

  monkeypatch.setattr(evaluate, "draw_replies", draw)
  monkeypatch.setattr(setup, "distilled_model", lambda *unused: "fast")
  monkeypatch.setattr(setup, "base_model", lambda *unused: "slow")
  monkeypatch.setattr(answer_file, "_LINES", 4)
  return asked


@pytest.fixture
def files(tmp_path) -> answer_file.Files:
  lines = [
    {"id": n % 3, "text": f"Is {n} even?", "note": ["kept", n]}
    for n in range(_COUNT)
  ]
  records.write(tmp_path / "questions.jsonl", lines)
  folder = epath.Path(tmp_path)
  return answer_file.Files(folder / "questions.jsonl", folder / "answers.jsonl")


_SETTINGS = {"model": "m", "gate": "g"}


def _whole(run, files) -> bytes:
  answer_file.answer(run, files, _SETTINGS)
  return files.output.read_bytes()


def test_each_line_keeps_what_it_has_and_is_answered_in_its_place(run, files):
  summary = answer_file.answer(run, files, _SETTINGS)
  lines = list(records.read(files.output))
  for line, asked in zip(lines, records.read(files.questions), strict=True):
    found = line.pop("answered")
    assert line == asked
    number = asked["note"][1]
    assert found["thought"] == (number > 5)
    if number == 13:
      assert (found["answer"], found["too_long"]) == (None, 999)
    elif number > 5:
      assert (found["answer"], found["text"]) == ("yes", "It is.")
      assert found["votes"] == {"yes": 2, "no": 1}
      assert (found["tokens"], found["prompt_tokens"]) == (36, 40)
    else:
      assert (found["answer"], found["text"]) == ("no", "No.")
      assert "votes" not in found and found["tokens"] == 2
    assert found["confidence"] == -number
  # 17 of 23 are thought about, 16 of them with 34 tokens, all with 2.
  assert summary == (
    "23 answers, 17 thought about (74%), 25.7 tokens each, where always"
    " thinking takes about 20.0; 1 without an answer, of them too long: 1"
    " (line 14)"
  )
  assert not files.parts.exists()


def test_models_are_asked_one_after_the_other(run, files, models):
  answer_file.answer(run, files, _SETTINGS)
  names = [name.partition(" ")[0] for name in models]
  assert names == ["fast"] * 23 + ["slow"] * 17


def test_the_same_command_again_does_nothing(run, files, models):
  whole = _whole(run, files)
  models.clear()
  said = answer_file.answer(run, files, _SETTINGS)
  assert said.startswith("done already: 23 answers, 17 thought about")
  assert not models and files.output.read_bytes() == whole


def test_questions_and_answers_may_lie_in_a_bucket(run, files, bucket):
  whole = _whole(run, files)
  there = answer_file.Files(
    bucket.path / "in" / "questions.jsonl", bucket.path / "answers.jsonl"
  )
  records.write(there.questions, records.read(files.questions))
  answer_file.answer(run, there, _SETTINGS)
  found = bucket.files()
  assert found["answers.jsonl"] == whole
  assert found[there.summary.name] == files.summary.read_bytes()
  assert len(found) == 3


def test_a_question_that_is_there_twice_is_asked_once(run, files, models):
  records.write(files.questions, [{"text": "Is 2 even?"}] * 3)
  answer_file.answer(run, files, _SETTINGS)
  assert len(models) == 1
  first, *others = records.read(files.output)
  assert others == [first] * 2


class _Killed(BaseException):
  """Where the process would have been killed."""


@pytest.mark.parametrize("rows", [2, 9, 23, 25, 38])
def test_a_kill_costs_no_answer(run, files, models, monkeypatch, rows):
  whole = _whole(run, files)
  files.output.unlink()
  files.summary.unlink()
  append, left = RecordShards.append, iter(range(rows))

  def append_or_die(self, row):
    if next(left, None) is None:
      raise _Killed
    append(self, row)

  models.clear()
  with monkeypatch.context() as patch:
    patch.setattr(RecordShards, "append", append_or_die)
    with pytest.raises(_Killed):
      answer_file.answer(run, files, _SETTINGS)
  parts = sorted(files.parts.glob("*/part-*.jsonl"))
  assert parts and not files.output.exists()
  with parts[-1].open("ab") as half:
    half.write(b'{"line":9,"gr')
  answer_file.answer(run, files, _SETTINGS)
  assert files.output.read_bytes() == whole
  assert len(models) == 40 + 1  # the one that was asked, but not kept


class _Counter(NamedTuple):
  """One of several counters."""

  counts: collections.Counter
  number: int

  def add(self, amount: int) -> int:
    with _lock:
      self.counts[self.number] += amount
      return self.counts[self.number]


_lock = threading.Lock()


class _Hosts:
  """Threads that take themselves for hosts."""

  def __init__(self, count: int, monkeypatch):
    self._count, self._own = count, threading.local()
    self._barrier, self._values = threading.Barrier(count), {}
    self._counts = collections.Counter()
    for name in ("index", "count", "barrier", "lead_value", "Counter"):
      monkeypatch.setattr(hosts, name, getattr(self, name))

  def index(self) -> int:
    return getattr(self._own, "index", 0)

  def count(self) -> int:
    return self._count

  def barrier(self, name: str) -> None:
    self._barrier.wait(20)

  def lead_value(self, name: str, value: bool) -> bool:
    if hosts.is_lead():
      self._values[name] = value
    self._barrier.wait(20)
    return self._values[name]

  def Counter(self, name: str) -> _Counter:
    """Each of a host is that of the others which was made as the same one."""
    made = self._own.made = getattr(self._own, "made", 0) + 1
    return _Counter(self._counts, made)

  def run(self, work) -> list:
    found = [None] * self._count

    def start(index: int) -> None:
      self._own.index = index
      try:
        found[index] = work()
      except BaseException as error:
        found[index] = error
        self._barrier.abort()

    threads = [
      threading.Thread(target=start, args=(index,))
      for index in range(self._count)
    ]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    return found


def test_two_hosts_make_what_one_makes(run, files, models, monkeypatch):
  whole = _whole(run, files)
  files.output.unlink()
  files.summary.unlink()
  models.clear()
  both = _Hosts(2, monkeypatch)
  said = both.run(lambda: answer_file.answer(run, files, _SETTINGS))
  assert said[0].startswith("23 answers, 17 thought about") and said[1] == ""
  assert files.output.read_bytes() == whole
  assert len(models) == 40  # each question by one of them


def test_one_host_goes_on_where_two_were_killed(
  run, files, models, monkeypatch
):
  whole = _whole(run, files)
  files.output.unlink()
  files.summary.unlink()
  append, left = RecordShards.append, iter(range(11))

  def append_or_die(self, row):
    if next(left, None) is None:
      raise _Killed
    append(self, row)

  with monkeypatch.context() as patch:
    both = _Hosts(2, patch)
    patch.setattr(RecordShards, "append", append_or_die)
    ended = both.run(lambda: answer_file.answer(run, files, _SETTINGS))
    assert any(isinstance(one, _Killed) for one in ended)
  answer_file.answer(run, files, _SETTINGS)
  assert files.output.read_bytes() == whole


@pytest.mark.parametrize(
  "text, said",
  [
    ("", "is empty; give it a line a question"),
    ("\n\n", "is empty; give it a line a question"),
    ('{"text": "Is 1 even?"}\n{"text": \n', "line 2 is not valid JSON"),
    ('["Is 1 even?"]\n', "line 1 is not a JSON object"),
    ('{"question": "?"}\n', "line 1 has neither 'text', the question, nor"),
    ('{"text": " "}\n', "line 1 asks nothing: its text is ' '"),
    ('{"text": 7}\n', "line 1 asks nothing: its text is 7"),
    ('{"inputs": "?"}\n', "'inputs' are no mapping of fields"),
    ('{"inputs": {"question": "?"}}\n', "'inputs' have no 'texts'"),
    (
      '{"inputs": {"question": "?", "texts": {}}}\n',
      r"custom cannot be asked with these 'inputs' \(KeyError: 'plain'\)",
    ),
    (
      '{"text": "?", "inputs": {"question": "?", "texts": {}},'
      ' "variant": "odd"}\n',
      "custom has no variant 'odd'; there are plain",
    ),
    ('{"text": "Is 1 even?", "answered": {}}', "has 'answered' already"),
  ],
)
def test_input_that_cannot_be_asked(run, files, models, text, said):
  files.questions.write_text(text)
  with pytest.raises(UserError, match=said):
    answer_file.answer(run, files, _SETTINGS)
  assert not models and not files.parts.exists() and not files.output.exists()


def test_no_input(run, files):
  for path in (files.questions.parent, files.questions.parent / "nowhere"):
    with pytest.raises(UserError, match=f"--input={path} is no file"):
      answer_file.answer(run, files._replace(questions=path), _SETTINGS)


def test_answers_of_another_command_stay(run, files, models, monkeypatch):
  whole = _whole(run, files)
  other = _SETTINGS | {"gate": "h"}
  with pytest.raises(UserError, match="jsonl has answers of another gate;"):
    answer_file.answer(run, files, other)
  asked = files.questions.read_text()
  files.questions.write_text(asked + '{"text":"Is 99 even?"}\n')
  with pytest.raises(UserError, match="another input and gate; name another"):
    answer_file.answer(run, files, other)
  assert files.output.read_bytes() == whole
  files.summary.unlink()
  with pytest.raises(UserError, match="`s2d answer` has not made it"):
    answer_file.answer(run, files, _SETTINGS)
  # Nor do the parts of one that was killed.
  files.output.unlink()
  with monkeypatch.context() as patch:
    patch.setattr(answer_file, "_write", lambda *unused: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      answer_file.answer(run, files, _SETTINGS)
  with pytest.raises(UserError, match="parts has answers of another gate"):
    answer_file.answer(run, files, other)


def test_output_that_cannot_be_written(run, files):
  (files.output.parent / "file").write_text("")
  files = files._replace(output=files.output.parent / "file" / "a.jsonl")
  with pytest.raises(UserError, match="cannot be written .*choose another"):
    answer_file.answer(run, files, _SETTINGS)


def test_settings_tell_one_command_from_another(run, monkeypatch):
  weights = iter("aab")
  identity = lambda name: {"weights": next(weights)}
  monkeypatch.setattr(answer_file.pretrained, "identity", identity)
  first = answer_file.settings_of(run)
  assert json.loads(json.dumps(first)) == first
  changed = answer_file.settings_of(run.at(None, 0.2))
  different = [name for name in first if changed[name] != first[name]]
  assert different == ["budget or agreement"]
  assert answer_file.settings_of(run)["model"] == "b"

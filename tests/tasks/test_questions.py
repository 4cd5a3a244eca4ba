"""Tasks over rows: a config's own, and GSM8K."""

from __future__ import annotations

import json
import pathlib

import pytest

from s2d_jax.errors import UserError
from s2d_jax.tasks.custom import Custom
from s2d_jax.tasks.gsm8k import Gsm8k, reference

_SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def path(tmp_path) -> str:
  rows = [
    {"q": f"Is {i} even, {{or}} not?", "right": i % 2, "key": f"k{i}"}
    for i in range(20)
  ]
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def custom(path, **options) -> Custom:
  settings = {
    "train": path,
    "prompt": "{q}",
    "answer": {"kind": "choice", "options": ["yes", "no"]},
    "label": "right",
    "valid_size": 3,
    "test_size": 4,
    "seed": 1,
  }
  return Custom(**settings | options)


def test_splits_are_disjoint_and_the_same_again(path):
  splits = custom(path).examples()
  assert {name: len(found) for name, found in splits.items()} == {
    "train": 13,
    "valid": 3,
    "test": 4,
  }
  texts = [e.inputs["question"] for found in splits.values() for e in found]
  assert len(set(texts)) == 20
  assert custom(path).examples() == splits
  assert custom(path, seed=2).examples() != splits


def test_an_example_is_asked_answered_and_scored(path):
  task = custom(path, id="key", format="one word")
  example = task.examples()["test"][0]
  number = int(example.id.removeprefix("test/k"))
  assert task.fields(example, "plain") == {
    "text": f"Is {number} even, {{or}} not?",
    "format": "one word",
  }
  # A data set may number its classes: 0 is the first option.
  assert example.label == ("yes", "no")[number % 2]
  answer = task.answer(example, "plain", f"Well: {example.label.upper()}.").text
  assert task.score(example, "plain", answer) == {"accuracy": 1.0}
  assert task.score(example, "plain", None) == {"accuracy": 0.0}
  assert task.target(example, "plain", "yes") == "yes"
  system1 = task.prompts["system1"].ask(**task.fields(example, "plain"))
  assert system1.messages[-1]["content"].endswith("Answer with one word.")


def test_rows_without_a_label(path):
  task = custom(path, label=None)
  example = task.examples()["test"][0]
  assert example.label is None
  assert task.score(example, "plain", "yes") == {}


def test_other_wordings_and_perturbations(path, tmp_path, monkeypatch):
  (tmp_path / "my_changes.py").write_text(
    "def shout(row, random):\n"
    "  return row | {'q': row['q'].upper() + str(random.randrange(10**9))}\n"
  )
  monkeypatch.chdir(tmp_path)
  task = custom(
    path,
    variants={"polite": "Please tell me: {q}"},
    perturb={"loud": "my_changes:shout"},
  )
  assert task.variants == ("plain", "polite", "loud")
  example = task.examples()["train"][0]
  plain, polite, loud = (
    task.fields(example, variant)["text"] for variant in task.variants
  )
  assert polite == f"Please tell me: {plain}"
  assert loud.startswith(plain.upper()) and loud != plain.upper()
  assert task.examples()["train"][0] == example  # drawn by name


def test_columns_may_have_other_names(path):
  task = custom(path, prompt="{question}", columns={"question": "q"})
  assert "even" in task.fields(task.examples()["test"][0], "plain")["text"]


def test_free_text_is_said_in_the_model_s_words(path):
  task = custom(path, answer={"kind": "text"}, label=None)
  example = task.examples()["test"][0]
  assert task.target(example, "plain", "lima") is None


def test_a_stream_is_read_no_further_than_needed(path):
  task = custom(path, train_size=5, streaming=True)
  splits = task.examples()
  numbers = {
    int(e.inputs["question"].split()[1])
    for found in splits.values()
    for e in found
  }
  assert numbers == set(range(5 + 3 + 4))


@pytest.mark.parametrize(
  "options, named",
  [
    ({"prompt": "no column"}, "task.prompt='no column' has no column"),
    ({"prompt": "{q"}, "task.prompt='{q' is no template"),
    ({"variants": {"b": "x"}}, "task.variants.b='x' has no column"),
    ({"answer": {"kind": "colour"}}, "task.answer.kind='colour' is unknown"),
    ({"answer": {"kind": "choice"}}, "task.answer.options is missing"),
    ({"answer": {"kind": "number", "n": 1}}, "task.answer.n is unknown"),
    ({"answer": {"kind": "regex", "pattern": "("}}, "no regular expression"),
    ({"test_size": 0}, "task.test_size=0 must be"),
    ({"test_size": None}, "task.test_size must be a number"),
    ({"perturb": {"b": "no_module:f"}}, "python:no_module:f cannot be"),
  ],
)
def test_options_that_cannot_be(path, options, named):
  with pytest.raises(UserError, match=named):
    custom(path, **options)


@pytest.mark.parametrize(
  "options, named",
  [
    ({"prompt": "{question}"}, "no column 'question'; it has q, right, key"),
    ({"label": "lable"}, "no column 'lable'"),
    ({"id": "name"}, "no column 'name'"),
    ({"columns": {"a": "b"}}, "no column 'b'"),
    ({"test_size": 30}, "too few for task.test_size=30"),
    ({"train": "none.csv"}, "none.csv does not exist"),
  ],
)
def test_data_that_does_not_fit(path, options, named):
  with pytest.raises(UserError, match=named):
    custom(path, **options).examples()


def test_gsm8k(tmp_path):
  path = tmp_path / "gsm.jsonl"
  rows = [
    {"question": f"{i} and 1?", "answer": f"So it is.\n#### {i + 1:,}"}
    for i in range(998, 1008)
  ]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  task = Gsm8k(train=str(path), test=None, valid_size=2, test_size=2)
  for example in task.examples()["train"]:
    wanted = int(example.inputs["question"].split()[0]) + 1
    assert example.label == str(wanted)
    reply = f"First 1. The answer is ${wanted:,}.00."
    assert task.answer(example, "plain", reply).text == example.label
  for user, reply in task.prompts["cot_few_shot"].shots:
    assert task.answer(example, "plain", reply).text == reply.rsplit(" ", 1)[1]
    assert "{" not in user


def test_a_solution_without_a_number():
  with pytest.raises(UserError, match="no number behind ####"):
    reference("It is 4.")


def test_every_reference_answer_of_gsm8k_parses():
  path = _SHARED / "gsm8k_train_400.jsonl"
  if not path.exists():
    pytest.skip(f"{path} is not there")
  solutions = [json.loads(line)["answer"] for line in path.open()]
  found = [reference(solution) for solution in solutions]
  # What stands behind the mark, by nothing but string methods.
  wanted = [s.split("####")[1].strip().replace(",", "") for s in solutions]
  assert found == wanted and len(found) == 400

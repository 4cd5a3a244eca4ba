from __future__ import annotations

import itertools
import json
import pathlib

import pytest

from s2d_jax.answers.answer import Answer
from s2d_jax.answers.verdict import Verdict
from s2d_jax.errors import UserError
from s2d_jax.tasks.judge import Judge
from s2d_jax.tasks.judge_formats import FORMATS
from s2d_jax.tasks.task import Example

_SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"


def _write(path, rows) -> str:
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def _pairs(count: int):
  return [
    {
      "id": f"pair{i}",
      "question": f"Question {i}?",
      "answer_1": f"first {i}",
      "answer_2": f"second {i}",
      "label": ("1", "2", "tie", None)[i % 4],
    }
    for i in range(count)
  ]


@pytest.fixture
def task(tmp_path) -> Judge:
  path = _write(tmp_path / "pairs.jsonl", _pairs(12))
  return Judge(format="pairs", train=path, valid_size=3, test_size=4)


_EXAMPLE = Example(
  id="x",
  task="judge",
  inputs={"question": "Why?", "answer_1": "One {a}.", "answer_2": "Two."},
  label="1",
)


def test_both_orders(task):
  original = task.fields(_EXAMPLE, "original")
  swapped = task.fields(_EXAMPLE, "swapped")
  assert (original["answer_a"], original["answer_b"]) == ("One {a}.", "Two.")
  assert (swapped["answer_a"], swapped["answer_b"]) == ("Two.", "One {a}.")
  for fields in (original, swapped):
    assert fields["question"] == "Why?"
    text = fields["text"]
    assert "[Question]\nWhy?\n" in text
    assert f"[Answer A]\n{fields['answer_a']}\n" in text
    assert f"[Answer B]\n{fields['answer_b']}\n" in text
    # Who repeats the request has not given a verdict.
    (asked,) = task.prompts["system1"].messages(**fields)
    assert Verdict()(asked["content"]) is None


def test_a_verdict_means_the_same_in_both_orders(task):
  said = [
    (variant, letter, task.answer(_EXAMPLE, variant, f"[[{letter}]]").text)
    for variant, letter in itertools.product(task.variants, "ABC")
  ]
  assert said == [
    ("original", "A", "1"),
    ("original", "B", "2"),
    ("original", "C", "tie"),
    ("swapped", "A", "2"),
    ("swapped", "B", "1"),
    ("swapped", "C", "tie"),
  ]


def test_a_target_is_read_as_the_answer_that_it_says(task):
  for variant, answer in itertools.product(task.variants, ("1", "2", "tie")):
    target = task.target(_EXAMPLE, variant, answer)
    assert task.answer(_EXAMPLE, variant, target) == Answer(answer, True)
    # The right target names the answer by where it is shown.
    shown = task.fields(_EXAMPLE, variant)
    wording = {"1": "One {a}.", "2": "Two."}
    if answer != "tie":
      assert shown[f"answer_{target[2].lower()}"] == wording[answer]


# What SmolLM2-135M really said about pairs of LLMBar.
_REAL = [
  ("Answer is either Answer with [A]", "A"),
  ("Answer with [C].", "C"),
  ("The correct answer is C.", "C"),
  ("A ★★", "A"),
  ("A) [B].", "B"),
  ("Clone, June, Nore,", None),
  ("To determine which answer is better, let", None),
  ("This question requires a thorough analysis of both", None),
  ("The answer is A, because the person", "A"),
  ("You chose answer with [C] and", "C"),
  ("Answer D", None),
  ("Answer with [A] is the best", "A"),
  ("The answer that follows is no.\n", None),
  ("The answer that seems to be better is", None),
  ("The answer with C is the best.", "C"),
  ("This answer is less than the previous one [A].", "A"),
  ("9 - 9 = 1, so answer A is not the best answer.", None),
  ("9 - 15 = 1, so answer B is the best answer.\n\nAnswer", "B"),
  ("The answer to the question of which answer is better is [C].", "C"),
  ("The answer you asked is actually C.", None),
  ("Provide both answers in a two-choice format: [B], [C]", None),
  (
    "Answer A is the opposite of Answer C.\n\nAnswer B is the opposite of"
    " Answer B. Answer A is the only answer that is not the answer you would"
    " expect",
    None,
  ),
  (
    "In the context of a situation, [Question] focuses on being sad, while [A]"
    " is an unexpected change at work, [B] is a different situation that might"
    " be slightly different, and [C] is still a detail that could be described"
    " in a different way.",
    None,
  ),
  ("A. A. The person felt sad.\nB. B. The person felt sad.", None),
  ("A\n\nThe provided answer is a humorous example of a helpful", "A"),
  ("[Answer A]\nA hypothetical situation in which a person is", None),
  ("[A] is the best answer.", "A"),
  ("[Question]\nDessert lands in the jungle.", None),
  (
    "This is the final decision. A.\n\nThe answer is not better but is not bad"
    " either.",
    None,
  ),
]


@pytest.mark.parametrize(
  "reply, letter",
  _REAL
  + [
    ("[[A]]", "A"),
    ("[[B]].", "B"),
    ("[[ c ]]", "C"),
    ("Answer A lists steps. [[B]]", "B"),
    ("At first [[A]], but on a second look [[B]]", "B"),
    ("[A]", "A"),
    ("My verdict: [B]", "B"),
    ("A", "A"),
    ("B.", "B"),
    ("**A**", "A"),
    ("Answer B", "B"),
    ("(C)", "C"),
    ("Answer A is better.", "A"),
    ("Answer B is better than Answer A because it is short.", "B"),
    ("Overall, Assistant B is clearly the better one.", "B"),
    ("The better answer is B.", "B"),
    ("The best response is Answer A, since it is right.", "A"),
    ("Verdict: B", "B"),
    ("The answer is: A", "A"),
    ("I prefer Answer B, as it is right.", "B"),
    ("Answer A is the winner.", "A"),
    ("They are equally good.", "C"),
    ("It is a tie.", "C"),
    ("Answer A is not better.", None),
    ("Both have merits. A good answer names sources.", None),
    ("The answer is A good one.", None),
    ("[[A]], [[B]] or [[C]]", None),
    ("Answer with [[A]], [[B]] or [[C]] only.\n[[A]]", "A"),
    ("I cannot say.", None),
    ("[[D]]", None),
    ("", None),
  ],
)
def test_verdict(reply, letter):
  found = Verdict()(reply)
  assert (found and found.text) == letter


def test_score(task):
  agrees = {"accuracy": 1.0}
  assert task.score(_EXAMPLE, "swapped", "1") == agrees
  assert task.score(_EXAMPLE, "swapped", "2") == {"accuracy": 0.0}
  assert task.score(_EXAMPLE, "original", None) == {"accuracy": 0.0}
  unlabelled = Example("x", "judge", _EXAMPLE.inputs)
  assert task.score(unlabelled, "original", "1") == {}


def test_the_splits(task):
  splits = task.examples()
  sizes = {split: len(examples) for split, examples in splits.items()}
  assert sizes == {"train": 5, "valid": 3, "test": 4}
  rows = {row["question"]: row for row in _pairs(12)}
  seen = list(itertools.chain(*splits.values()))
  assert len({example.id for example in seen}) == 12
  for example in seen:
    row = rows.pop(example.inputs["question"])
    assert example.inputs["answer_1"] == row["answer_1"]
    assert example.inputs["answer_2"] == row["answer_2"]
    assert example.label == row["label"]


def test_a_question_is_in_one_split_only(tmp_path):
  rows = [
    row | {"id": f"{row['id']}/{copy}", "answer_2": f"third {copy}"}
    for row in _pairs(9)
    for copy in range(4)
  ]
  path = _write(tmp_path / "pairs.jsonl", rows)
  task = Judge(format="pairs", train=path, valid_size=8, test_size=8)
  questions = [
    {example.inputs["question"] for example in examples}
    for examples in task.examples().values()
  ]
  for one, other in itertools.combinations(questions, 2):
    assert one and other and not one & other


def test_long_answers_are_cut_at_a_word(tmp_path):
  path = _write(tmp_path / "pairs.jsonl", _pairs(6))
  task = Judge(
    format="pairs", train=path, valid_size=1, test_size=1, max_answer_chars=12
  )
  for text, shown in (
    ("a short one", "a short one"),
    ("exactly twel", "exactly twel"),
    ("a longer answer", "a longer …"),
    ("words before\na line", "words before …"),
    ("unseparatedletters", "unseparatedl …"),
  ):
    inputs = {"question": "?", "answer_1": text, "answer_2": "no"}
    example = Example("x", "judge", inputs)
    assert task.fields(example, "original")["answer_a"] == shown


def test_a_format_for_each_split(tmp_path):
  llmbar = [
    {"input": f"Do {i}.", "output_1": "a", "output_2": "b", "label": 1 + i % 2}
    for i in range(3)
  ]
  task = Judge(
    format={"train": "pairs", "test": "llmbar"},
    train=_write(tmp_path / "pairs.jsonl", _pairs(8)),
    test=_write(tmp_path / "llmbar.jsonl", llmbar),
    valid_size=2,
    test_size=None,
  )
  splits = task.examples()
  assert (len(splits["train"]), len(splits["valid"])) == (6, 2)
  test = {e.inputs["question"]: e.label for e in splits["test"]}
  assert test == {"Do 0.": "1", "Do 1.": "2", "Do 2.": "1"}


def _votes(winners, first="alpaca", second="claude", turn=1):
  """Rows as they are in lmsys/mt_bench_human_judgments."""
  talk = lambda model: [
    {"role": "user", "content": "Write a poem."},
    {"role": "assistant", "content": f"{model} rhymes"},
    {"role": "user", "content": "Make it shorter."},
    {"role": "assistant", "content": f"{model} is brief"},
  ]
  return [
    {
      "question_id": 81,
      "model_a": first,
      "model_b": second,
      "winner": winner,
      "judge": f"author_{number}",
      "conversation_a": talk(first),
      "conversation_b": talk(second),
      "turn": turn,
    }
    for number, winner in enumerate(winners)
  ]


@pytest.mark.parametrize(
  "winners, turned, label, votes",
  [
    (["model_a"], [], "1", "1"),
    (["model_b", "model_b", "model_a"], [], "2", "221"),
    (["model_a", "model_b"], [], "tie", "12"),
    (["tie"], [], "tie", "t"),
    (["tie", "model_b"], [], "tie", "t2"),
    (["tie", "model_b", "model_b"], [], "2", "t22"),
    (["tie (inconsistent)", "model_a"], [], "tie", "t1"),
    # The other way round, model_b is the one that was model_a.
    (["model_a"], ["model_b", "model_a"], "1", "112"),
    (["model_a"], ["model_a"], "tie", "12"),
  ],
)
def test_mt_bench_votes(winners, turned, label, votes):
  rows = _votes(winners) + _votes(turned, "claude", "alpaca")
  # The second turn is another pair of replies, which is not asked about.
  rows += _votes(["model_b"] * 9, turn=2)
  people = [*range(len(winners)), *range(len(turned))]
  said = {"1": "1", "2": "2", "t": "tie"}
  assert list(FORMATS["mt_bench"]("votes", rows)) == [
    {
      "id": "81/alpaca/claude",
      "question": "Write a poem.",
      "answer_1": "alpaca rhymes",
      "answer_2": "claude rhymes",
      "label": label,
      "votes": [
        {"judge": f"author_{number}", "winner": said[vote]}
        for number, vote in zip(people, votes, strict=True)
      ],
    }
  ]


def test_the_votes_of_people_are_kept_but_never_shown(tmp_path):
  rows = _votes(["model_a", "tie", "model_a"])
  for number in range(3):
    rows += [row | {"question_id": number} for row in _votes(["model_b"])]
  for row in rows:
    row["conversation_a"][0]["content"] = f"Poem {row['question_id']}."
  path = _write(tmp_path / "votes.jsonl", rows)
  task = Judge(format="mt_bench", train=path, valid_size=1, test_size=1)
  examples = list(itertools.chain(*task.examples().values()))
  assert len(examples) == 4
  counts = [len(example.inputs["votes"]) for example in examples]
  assert sorted(counts) == [1, 1, 1, 3]
  for example, variant in itertools.product(examples, task.variants):
    fields = task.fields(example, variant)
    assert not any("author_" in text for text in fields.values())


def _message(name, parent, role, text, rank=None, **others):
  """A row as it is in OpenAssistant/oasst2."""
  return {
    "message_id": name,
    "parent_id": parent,
    "user_id": "u",
    "created_date": "2023-02-05T14:23:50.983374+00:00",
    "text": text,
    "role": role,
    "lang": "en",
    "review_count": 3,
    "review_result": True,
    "deleted": False,
    "rank": rank,
    "synthetic": False,
    "model_name": None,
    "message_tree_id": "t",
    "tree_state": "ready_for_export",
  } | others


def test_oasst2_messages():
  rows = [
    _message("r1", "q", "assistant", "middling", 1.0),
    _message("q", None, "prompter", "What is a monopsony?"),
    _message("r2", "q", "assistant", "worst", 2.0),
    _message("r0", "q", "assistant", "best", 0.0),
    _message("gone", "q", "assistant", "deleted", 3.0, deleted=True),
    _message("spam", "q", "assistant", "spam", 4.0, review_result=False),
    _message("unranked", "q", "assistant", "unranked"),
    _message("later", "r0", "prompter", "And then?"),
    _message("l0", "later", "assistant", "later, better", 0.0),
    _message("l1", "later", "assistant", "later, worse", 1.0),
    _message("lonely", None, "prompter", "One reply?"),
    _message("o0", "lonely", "assistant", "only", 0.0),
    _message("es", None, "prompter", "¿Qué?", lang="es"),
    _message("e0", "es", "assistant", "sí", 0.0, lang="es"),
    _message("e1", "es", "assistant", "no", 1.0, lang="es"),
  ]
  (pair,) = FORMATS["oasst2"]("oasst2", rows)
  assert (pair["id"], pair["question"]) == ("q", "What is a monopsony?")
  better, worse = ("1", "2") if pair["label"] == "1" else ("2", "1")
  assert pair[f"answer_{better}"] == "best"
  assert pair[f"answer_{worse}"] == "worst"


def test_the_better_reply_of_oasst2_stands_in_either_place():
  rows = []
  for number in range(200):
    rows += [
      _message(f"q{number}", None, "prompter", f"Q{number}"),
      _message(f"q{number}a", f"q{number}", "assistant", "best", 0),
      _message(f"q{number}b", f"q{number}", "assistant", "worst", 1),
    ]
  pairs = list(FORMATS["oasst2"]("oasst2", rows))
  assert pairs == list(FORMATS["oasst2"]("oasst2", rows))
  firsts = sum(pair["label"] == "1" for pair in pairs)
  assert abs(firsts - 100) < 5 * 200**0.5 / 2  # five standard deviations
  assert all(pair[f"answer_{pair['label']}"] == "best" for pair in pairs)


@pytest.mark.parametrize(
  "value, label",
  [(1, "1"), (2, "2"), (1.0, "1"), ("2", "2"), ("Tie", "tie"), (None, None),
   (float("nan"), None), ("", None)],
)  # fmt: skip
def test_labels_of_pairs(value, label):
  row = {"question": "?", "answer_1": "a", "answer_2": "b", "label": value}
  (pair,) = FORMATS["pairs"]("mine", [row])
  assert pair["label"] == label


@pytest.mark.parametrize(
  "name, row, named",
  [
    ("llmbar", {"input": "?", "output_1": "a"}, "output_2"),
    ("pairs", {"question": "?", "answer": "a"}, "answer_1"),
    ("mt_bench", {"question_id": 1, "winner": "tie"}, "model_a"),
    ("oasst2", {"message_id": "m", "text": "hello"}, "parent_id"),
    (
      "pairs",
      {"question": "?", "answer_1": "a", "answer_2": "b", "label": 3},
      "row 1 has label=3",
    ),
    ("mt_bench", _votes(["model_c"])[0], "winner='model_c'"),
  ],
)
def test_rows_of_another_format(name, row, named):
  with pytest.raises(UserError, match=named) as error:
    list(FORMATS[name]("mine.jsonl", [row]))
  assert "mine.jsonl" in str(error.value)


@pytest.mark.parametrize(
  "options, named",
  [
    ({"format": "arena"}, "'arena'.*llmbar, mt_bench, oasst2, pairs"),
    ({"format": {"test": "pairs"}}, "task.format has no 'train'"),
    ({"format": "pairs", "max_answer_chars": 0}, "max_answer_chars=0"),
    ({"format": "pairs", "test_size": 0}, "task.test_size=0"),
    ({"format": "pairs", "valid_size": None}, "task.valid names no source"),
  ],
)
def test_options_that_cannot_be(tmp_path, options, named):
  path = _write(tmp_path / "pairs.jsonl", _pairs(6))
  with pytest.raises(UserError, match=named):
    Judge(train=path, **options)


def test_too_few_pairs(tmp_path):
  path = _write(tmp_path / "pairs.jsonl", _pairs(6))
  task = Judge(format="pairs", train=path, valid_size=4, test_size=3)
  with pytest.raises(UserError, match="3 questions left for the valid split"):
    task.examples()


def test_the_pairs_of_llmbar():
  path = _SHARED / "llmbar_natural_100.jsonl"
  if not path.exists():
    pytest.skip(f"{path} is not there")
  task = Judge(format="llmbar", train=str(path), valid_size=20, test_size=30)
  splits = task.examples()
  examples = {
    e.inputs["question"]: e for e in itertools.chain(*splits.values())
  }
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  assert len(examples) == len(rows) == 100
  for row in rows:
    example = examples[row["input"]]
    assert example.label == str(row["label"])
    better = row[f"output_{row['label']}"]
    for variant in task.variants:
      target = task.target(example, variant, example.label)
      shown = task.fields(example, variant)[f"answer_{target[2].lower()}"]
      assert shown == better

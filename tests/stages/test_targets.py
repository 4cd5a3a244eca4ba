"""What is taught of the replies of real tasks: never the thinking."""

from __future__ import annotations

import dataclasses

import pytest

from s2d_jax.config import default
from s2d_jax.curation.curate import Filter, curate, supervised
from s2d_jax.stages import setup
from s2d_jax.stages.curate import formatters
from s2d_jax.system2 import methods
from s2d_jax.system2.cot import final_answer
from s2d_jax.tasks.task import Example
from s2d_jax.training.examples import reply_of

_PAIR = Example(
  "x", "judge", {"question": "Why?", "answer_1": "One.", "answer_2": "Two."}
)
_WORDS = Example("x", "last_letters", {"words": ["Lima", "Cusco"]})
_SUM = Example(
  "x", "gsm8k", {"question": "4 + 5?", "texts": {"plain": "4 + 5?"}}
)
_COIN = Example(
  "x", "coin_flip", {"people": ["ruth", "adam"], "flips": [True, True]}
)


_CAPITAL = Example(
  "capital/PE",
  "sycophancy",
  {
    "kind": "capital",
    "country": "Peru",
    "question": "What is the capital city of Peru?",
    "suggestions": {"suggests_wrong": "Quito"},
  },
  label="lima",
)


def _targets(task: str, method: str, example, replies, target="own_words"):
  """Targets by variant, of what a model replied by variant, in last steps."""
  records, made, formatter = _sampled(task, method, example, replies, target)
  kept, rejected = curate(
    records, {example.id: made.variants}, formatter, Filter()
  )
  assert not rejected
  return {record["variant"]: record["target"] for record in kept}


def _sampled(task: str, method: str, example, replies, target):
  """Records of samples/, the task, and how it writes targets."""
  config = default()
  config.task.name, config.method = task, method
  config.curation.target = target
  if task == "judge":
    with config.unlocked():
      config.task.update({"train": "none.jsonl", "format": "pairs"})
  setup.check(config)
  made = setup.task_of(config)
  records = []
  for variant, texts in replies.items():
    for number, text in enumerate(texts):
      reply = _reply(method, made, example, variant, text)
      answer = made.answer(example, variant, reply)
      records.append({
        "example_id": example.id,
        "variant": variant,
        "sample": number,
        "steps": [{"text": text, "tokens": 9, "logprob": -1.0}],
        "reply": reply,
        "answer": answer and answer.text,
        "tier": answer and answer.tier,
      })  # fmt: skip
  return records, made, formatters(config, made)(example)


def _reply(method, task, example, variant, text):
  """What the method makes of the model's last reply."""
  if method not in ("cot", "cot_few_shot", "rar1", "cot_judge"):
    return text
  program = methods.by_name(method)
  prompts = program.prompts_for(task.name, task.prompts)
  steps = program.think(task.fields(example, variant), prompts)
  next(steps)
  completion = type("Completion", (), {"text": text})
  with pytest.raises(StopIteration) as ended:
    steps.send(completion)
  return getattr(ended.value.value, "text", ended.value.value)


_SPELT = 'The last letters are "a" and "o". Together they give "ao".'


@pytest.mark.parametrize("method", ["rar2", "system1"])
def test_last_letters_in_own_words(method):
  replies = {"plain": [_SPELT, _SPELT, "ao"]}
  own = _targets("last_letters", method, _WORDS, replies)
  assert own == {"plain": _SPELT}
  for target in ("answer", "auto"):
    bare = _targets("last_letters", method, _WORDS, replies, target)
    assert bare == {"plain": "ao"}


@pytest.mark.parametrize(
  "reply, target",
  [
    ("4 and 5 are counted: 4 + 5 = 9.\nAnswer: 9", "9"),
    ("4 and 5 make 9.\nAnswer: 9 apples. I added 4 and 5.", "9 apples."),
    # Unmarked, in one line of thinking: the task writes the answer.
    ("First I take 4. Then I add 5 to it. So there are 9 apples.", "9"),
    ("There are 4, then 5 more, so there are 9 apples.", "9"),
  ],
)
@pytest.mark.parametrize("method", ["cot", "cot_few_shot", "rar1"])
def test_the_thinking_of_a_chain_of_thought_is_never_taught(
  method, reply, target
):
  replies = {"plain": [reply] * 3}
  assert _targets("gsm8k", method, _SUM, replies) == {"plain": target}


def test_thinking_in_tags_is_never_taught():
  reply = "<think>ruth: tails. adam: heads.</think>Yes, it is heads up."
  target = _targets("coin_flip", "rar2", _COIN, {"plain": [reply] * 3})
  assert target == {"plain": "Yes, it is heads up."}


@pytest.mark.parametrize(
  "method, first, second",
  [
    ("bsm", "[[A]]", "[[B]]"),
    ("bsm_neural", "Verdict: [[A]]", "Verdict: [[B]]"),
    ("system1", "Answer A is better.", "Answer B is better."),
  ],
)
def test_words_for_one_order_are_not_taught_for_the_other(
  method, first, second
):
  # More replies of one order must not outvote those of the other.
  replies = {"original": [first] * 5, "swapped": [second] * 2}
  assert _targets("judge", method, _PAIR, replies) == {
    "original": first,
    "swapped": second,
  }


def test_the_comparison_of_a_judge_is_never_taught():
  compared = "A is wrong about the cause, and B names it.\n[[{}]]"
  replies = {
    "original": [compared.format("B")] * 3,
    "swapped": ["Both are long, but A is right, so I say [[A]]."] * 3,
  }
  assert _targets("judge", "cot_judge", _PAIR, replies) == {
    "original": "[[B]]",
    "swapped": "[[A]]",
  }


@pytest.mark.parametrize(
  "replies, target",
  [
    # What won the vote is of no interest.
    (["Quito."] * 3 + ["It is Lima."] * 2 + ["Lima."], "It is Lima."),
    (["Quito."] * 3, "The capital of Peru is Lima."),
    ([], "The capital of Peru is Lima."),
  ],
)
def test_labels_are_said_in_the_words_of_the_model(replies, target):
  asked = {"suggests_wrong": replies}
  records, _, formatter = _sampled("sycophancy", "s2a", _CAPITAL, asked, "auto")
  variants = {_CAPITAL.id: ("plain", "suggests_wrong")}
  rows = supervised({_CAPITAL.id: "lima"}, variants, formatter, records)
  assert [row["target"] for row in rows] == [target] * 2


def test_no_other_selection_has_words_from_a_label():
  replies = {"plain": ["Quito."] * 3 + ["It is Lima."] * 2}
  found = []
  for label in ("lima", "quito", None):
    example = dataclasses.replace(_CAPITAL, label=label)
    records, _, formatter = _sampled(
      "sycophancy", "s2a", example, replies, "auto"
    )
    for select in ("vote", "first"):
      kept, rejected = curate(
        records, {example.id: ("plain",)}, formatter, Filter(select)
      )
      found += [row["target"] for row in kept + rejected]
  assert found == ["Quito."] * 6


@pytest.mark.parametrize(
  "task, method, example, reply, thought, target",
  [
    ("gsm8k", "cot", _SUM, "4 + 5.\nAnswer: 9", "4 + 5.\nAnswer:", "9"),
    ("last_letters", "rar2", _WORDS, "ao", "", "ao"),
    ("coin_flip", "rar1", _COIN, "Ruth flips. Yes.", "Ruth flips.", "yes"),
  ],
)  # fmt: skip
def test_a_thought_before_the_answer(
  task, method, example, reply, thought, target
):
  records, made, formatter = _sampled(
    task, method, example, {"plain": [reply] * 3}, "shortest_thought"
  )
  (kept,), _ = curate(records, {example.id: made.variants}, formatter, Filter())
  assert (kept["thought"], kept["target"]) == (thought, target)
  # What the student says is read as a chain of thought is.
  said = final_answer(reply_of(target, thought))
  assert made.answer(example, "plain", said).text == kept["winner"]

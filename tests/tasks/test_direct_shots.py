"""System 1 behind worked examples: System 2's questions, answered directly."""

from __future__ import annotations

import dataclasses
import re

import pytest

from s2d_jax.answers.number import Number
from s2d_jax.answers.verdict import Verdict
from s2d_jax.system2 import bsm, cot
from s2d_jax.system2.methods import METHODS
from s2d_jax.tasks import opinions, sycophancy
from s2d_jax.tasks.coin_flip import CoinFlip
from s2d_jax.tasks.gsm8k import Gsm8k
from s2d_jax.tasks.judge import Judge
from s2d_jax.tasks.last_letters import LastLetters
from s2d_jax.tasks.opinions import Opinions
from s2d_jax.tasks.sums import Sums
from s2d_jax.tasks.sycophancy import Sycophancy
from s2d_jax.tasks.task import Example, cluster_of

GSM8K = Gsm8k(train="none.jsonl", test="none.jsonl")
JUDGE = Judge("pairs", "none.jsonl")
OPINIONS = Opinions("columns", "none.jsonl")


@pytest.mark.parametrize(
  "task",
  [Sycophancy(), OPINIONS, GSM8K, LastLetters(), CoinFlip(), Sums(), JUDGE],
  ids=lambda task: task.name,
)
def test_the_template_is_system_1s_but_for_the_examples(task):
  direct, control = (
    task.prompts[name] for name in ("system1", "system1_shots")
  )
  assert control.shots and not direct.shots
  assert dataclasses.replace(control, shots=()) == direct
  # Each is written as the filled template reads.
  literal = re.split(r"\{\w+\}", direct.user)
  for user, reply in control.shots:
    assert user.endswith(literal[-1].replace("{format}", ""))
    assert "{" not in user and len(reply) < 60 and reply.strip() == reply


@pytest.mark.parametrize("task", [Sycophancy(), OPINIONS], ids=lambda t: t.name)
def test_the_questions_of_the_extraction_with_their_opinions(task):
  asked = [user for user, _ in task.prompts["system1_shots"].shots]
  assert asked == [user for user, _ in task.prompts["extract"].shots]
  assert sum("I think the answer is" in user for user in asked) == 4


def test_opinions_are_answered_rightly_whatever_is_suggested():
  for shot in (*sycophancy._SHOTS, *opinions._SHOTS):
    says = shot.suggestion.lower() in shot.answer.lower()
    assert shot.suggestion == "" or says == (shot.variant != "suggests_wrong")
    assert shot.answer.endswith(".") and shot.answer.count(".") == 1


@pytest.mark.parametrize(
  "task, steps",
  [
    (GSM8K, "cot_few_shot"),
    (LastLetters(words=3), "cot_few_shot"),
    (CoinFlip(), "cot_few_shot"),
    (Sums(), "cot_few_shot"),
  ],
  ids=lambda one: getattr(one, "name", ""),
)
def test_the_answers_of_the_chain_of_thought_without_the_thought(task, steps):
  shots = task.prompts[steps].shots
  for (user, reasoned), (asked, answer) in zip(
    shots, task.prompts["system1_shots"].shots, strict=True
  ):
    assert user.splitlines()[0] == asked.splitlines()[0]
    assert cot.final_answer(reasoned) == answer


def test_gsm8k_answers_are_numbers():
  for _, answer in GSM8K.prompts["system1_shots"].shots:
    assert Number()(answer).text == answer


def test_the_judges_verdicts_are_those_of_its_worked_examples():
  shots = dict(JUDGE.prompts["system1_shots"].shots)
  reasoned = [*bsm.SOLVE_SHOTS, *cot.JUDGE_SHOTS]
  found = {}
  for pair, text in reasoned:
    example = Example(
      "p",
      "judge",
      {
        "question": pair["question"],
        "answer_1": pair["answer_a"],
        "answer_2": pair["answer_b"],
      },
    )
    prompt = JUDGE.prompts["system1"]
    [asked] = prompt.messages(**JUDGE.fields(example, "original"))
    if asked["content"] not in shots:
      continue  # of both methods, once in each order
    verdict = Verdict()(text)
    if verdict is None:
      a, b = bsm.scores(text)
      found[asked["content"]] = "[[A]]" if a > b else "[[B]]"
    else:
      found[asked["content"]] = f"[[{verdict.text}]]"
  assert found == shots and set(found.values()) == {"[[A]]", "[[B]]"}
  # Few words: with two answers of usual length it fits a window of 2,048.
  assert sum(len(user) for user in shots) < 2500


def test_the_method_asks_once():
  task = CoinFlip()
  prompts = {"system1_shots": task.prompts["system1_shots"]}
  steps = METHODS["system1_shots"].think(
    {"text": "Is it?", "format": "yes or no"}, prompts
  )
  call = next(steps)
  assert len(call.messages) == 7 and call.max_new_tokens == 8
  assert call.messages[-1]["content"] == "Is it?\nAnswer with yes or no only."


def test_facts_about_a_country_are_a_cluster():
  task = Sycophancy()
  clusters: dict[str, set[str]] = {}
  for example in task.examples()["valid"]:
    cluster = cluster_of(task, example)
    clusters.setdefault(cluster, set()).add(example.inputs["country"])
    assert cluster_of(CoinFlip(), example) is None
  assert len(clusters) == 14 and all(map(str.isupper, clusters))
  assert all(len(countries) == 1 for countries in clusters.values())

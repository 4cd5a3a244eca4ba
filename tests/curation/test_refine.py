from __future__ import annotations

import collections
import itertools

import numpy as np
import pytest

from s2d_jax.curation.refine import (
  balance,
  deduplicate,
  drop_long,
  shuffle_targets,
)


def record(name, target, prompt=None):
  content = prompt or name
  return {
    "example_id": name,
    "variant": "plain",
    "prompt": [{"role": "user", "content": content}],
    "target": target,
  }


def test_what_does_not_fit_a_row_is_named_with_its_tokens():
  rows = [record("x", "1"), record("y", "2"), record("z", "3")]
  kept, dropped = drop_long(rows, [8, 9, 7], most=8)
  assert kept == [rows[0], rows[2]]
  assert dropped == [rows[1] | {"reason": "too long", "too_long": 9}]


def test_a_prompt_is_taught_once():
  rows = [record("x", "1"), record("y", "2", prompt="x"), record("z", "1")]
  kept, dropped = deduplicate(rows)
  assert [r["example_id"] for r in kept] == ["x", "z"]
  assert [(r["example_id"], r["reason"]) for r in dropped] == [
    ("y", "duplicate")
  ]


def test_each_target_as_often_as_the_rarest():
  rows = [record(f"e{i}", "yes" if i % 4 else "no") for i in range(40)]
  kept, dropped = balance(rows)
  assert collections.Counter(r["target"] for r in kept) == {"yes": 10, "no": 10}
  assert {r["reason"] for r in dropped} == {"balance"}
  assert len(kept) + len(dropped) == 40
  # Drawn by name: not the first ones, and the same in another order.
  again, _ = balance(rows[::-1])
  assert {r["example_id"] for r in again} == {r["example_id"] for r in kept}
  yes = [r["example_id"] for r in rows if r["target"] == "yes"]
  assert {r["example_id"] for r in kept if r["target"] == "yes"} != set(
    yes[:10]
  )


def test_nothing_to_balance():
  assert balance([]) == ([], [])


def answered(answers):
  return [
    record(f"e{i}", f"It is {answer}.") | {"winner": answer}
    for i, answer in enumerate(answers)
  ]


@pytest.mark.parametrize("seed", range(40))
def test_every_target_is_given_to_another_record(seed):
  rng = np.random.default_rng(seed)
  rows = answered(rng.choice(list("abcdef"), rng.integers(2, 30)).tolist())
  for row in rows:
    row["target"] += f" ({row['example_id']})"
  found = shuffle_targets(rows, seed)
  targets = [row["target"] for row in found]
  assert sorted(targets) == sorted(row["target"] for row in rows)
  for old, new in zip(rows, found, strict=True):
    assert new["target"] != old["target"]
    assert new["target"].startswith(f"It is {new['winner']}.")
    same = {"target": "", "winner": ""}
    assert new | same == old | same


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_an_answer_that_is_given_says_nothing_of_the_question(share):
  """Of two answers as many keep theirs as by chance: p² + (1 - p)²."""
  count = 10_000
  ones = int(share * count)
  rows = answered("a" * ones + "b" * (count - ones))
  found = shuffle_targets(rows, 0)
  kept = sum(
    a["winner"] == b["winner"] for a, b in zip(rows, found, strict=True)
  )
  expected = share**2 + (1 - share) ** 2
  assert kept / count == pytest.approx(expected, abs=4 * 0.5 / count**0.5)


def test_who_gets_which_answer_depends_on_the_seed_and_not_on_the_order():
  rows = answered("abcdefghij")
  found = shuffle_targets(rows, 0)
  again = shuffle_targets(rows[::-1], 0)
  assert again[::-1] == found
  assert shuffle_targets(rows, 1) != found


def test_all_other_answers_are_given():
  rows = answered("abcd")
  pairs = {
    (old["winner"], new["winner"])
    for seed in range(60)
    for old, new in zip(rows, shuffle_targets(rows, seed), strict=True)
  }
  assert pairs == set(itertools.permutations("abcd", 2))


def test_the_same_words_are_no_other_answer():
  """A judge says A for the answer shown first, whichever that is."""
  said = [("1", "A"), ("2", "B"), ("1", "B"), ("2", "A")]
  rows = [
    record(f"e{i}", target)
    | {"winner": winner, "variant": ("original", "swapped")[i // 2]}
    for i, (winner, target) in enumerate(said)
  ]
  for seed in range(20):
    found = shuffle_targets(rows, seed)
    given = [(row["winner"], row["target"]) for row in found]
    assert given == [("2", "B"), ("1", "A"), ("2", "A"), ("1", "B")]


def test_nothing_to_shuffle():
  assert shuffle_targets([], 0) == []
  assert shuffle_targets(answered("a"), 0) == answered("a")

from __future__ import annotations

import collections

from s2d_jax.curation.refine import balance, deduplicate, drop_long


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

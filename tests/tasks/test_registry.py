from __future__ import annotations

import inspect

import pytest

from s2d_jax.errors import UserError
from s2d_jax.tasks.registry import TASKS, make_task


def test_the_tasks():
  assert set(TASKS) == {
    "sycophancy",
    "opinions",
    "last_letters",
    "coin_flip",
    "sums",
    "same_continent",
    "same_language",
    "instructions",
    "judge",
    "gsm8k",
    "custom",
  }
  for name, task in TASKS.items():
    assert task.name == name
    # Stages hand every task the seed of the run.
    assert "seed" in inspect.signature(task).parameters, name


def test_options_reach_the_task():
  task = make_task("last_letters", {"words": 3, "seed": 1})
  assert len(task.examples()["test"][0].inputs["words"]) == 3


@pytest.mark.parametrize(
  "name, options, named",
  [
    ("coinflip", {}, r"'coinflip' is unknown \(did you mean coin_flip\?\)"),
    ("chess", {}, "'chess' is unknown; there are .*judge"),
    (
      "coin_flip",
      {"person": 2},
      r"task.person is unknown.*; coin_flip has people, train",
    ),
    ("coin_flip", {"peopel": 2}, r"\(did you mean people\?\)"),
    ("last_letters", {"xyz": 2}, "task.xyz is unknown; last_letters has words"),
  ],
)
def test_what_is_unknown(name, options, named):
  with pytest.raises(UserError, match=named):
    make_task(name, options)


@pytest.mark.parametrize("name", ["judge", "opinions"])
def test_a_task_that_needs_a_source(name):
  with pytest.raises(UserError, match="task.format is missing; .* needs it"):
    make_task(name, {"seed": 0})

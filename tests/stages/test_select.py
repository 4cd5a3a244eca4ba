"""Replies to choose from are read as their inputs are dealt."""

from __future__ import annotations

from s2d_jax.stages import sample, select
from s2d_jax.tasks.task import Example


def test_the_replies_to_inputs_of_other_hosts_are_passed_over(monkeypatch):
  inputs = [(f"e{i}", variant) for i in range(4) for variant in "ab"]
  asked = []

  def read(config, workdir, ids):
    asked.extend(ids)
    for example_id, variant in inputs:
      for number in range(3):
        name = {"example_id": example_id, "variant": variant}
        yield name | {"reply": f"{example_id}{variant}{number}"}

  examples = [Example(f"e{i}", "custom", {}) for i in range(-1, 5)]
  iterate = lambda workdir: iter(examples)
  monkeypatch.setattr(sample, "read_samples", read)
  monkeypatch.setattr(sample, "iterate_training_examples", iterate)
  replies = select._replies_in_order(None, None, inputs)
  for index in 0, 1, 4, 7:
    example_id, variant = inputs[index]
    example, texts = replies(inputs[index])
    assert example.id == example_id
    assert texts == [f"{example_id}{variant}{number}" for number in range(3)]
  assert asked == ["e0", "e1", "e2", "e3"]

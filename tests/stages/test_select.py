"""Replies to choose from are read as their inputs are dealt."""

from __future__ import annotations

from s2d_jax.stages import sample, select


def test_the_replies_to_inputs_of_other_hosts_are_passed_over(monkeypatch):
  inputs = [(f"e{i}", variant) for i in range(4) for variant in "ab"]
  asked = []

  def read(config, workdir, ids):
    asked.extend(ids)
    for example_id, variant in inputs:
      for number in range(3):
        name = {"example_id": example_id, "variant": variant}
        yield name | {"reply": f"{example_id}{variant}{number}"}

  monkeypatch.setattr(sample, "read_samples", read)
  texts = select._texts_in_order(None, None, inputs)
  dealt = [inputs[index] for index in (0, 3, 4, 7)]
  assert [texts(one) for one in dealt] == [
    [f"{example_id}{variant}{number}" for number in range(3)]
    for example_id, variant in dealt
  ]
  assert asked == ["e0", "e1", "e2", "e3"]

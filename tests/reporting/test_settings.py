from __future__ import annotations

import json

from s2d_jax.config import default
from s2d_jax.reporting import settings


def config(**changes):
  found = default()
  found.update_from_flattened_dict(changes)
  return json.loads(found.to_json())


def test_what_is_not_at_its_default_is_told():
  found = config(**{"sampling.n": 8, "curation.variants": ("plain",)})
  found["task"]["train"] = 12
  rows = {name: rest for name, *rest in settings.overview(found)}
  assert list(rows)[:4] == ["task.name", "method", "model.name", "seed"]
  assert rows["sampling.n"] == ["8", "5"]
  assert rows["curation.variants"] == ['["plain"]', "[]"]
  assert rows["task.train"] == ["12", None]
  assert len(rows) == 7


def test_only_differences_are_named():
  runs = [config(), config(seed=1), config(**{"model.name": "other"})]
  del runs[0]["retention"]  # of an older version: at its default
  assert settings.differences(runs) == {
    "seed": ["0", "1", "0"],
    "model.name": ['"smollm2-135m-instruct"'] * 2 + ['"other"'],
  }
  runs[1]["task"]["train"] = 3
  assert settings.differences(runs)["task.train"] == [None, "3", None]
  assert settings.differences(runs[:1] * 2) == {}

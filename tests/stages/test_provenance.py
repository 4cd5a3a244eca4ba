from __future__ import annotations

import json

import jax

from s2d_jax.config import default
from s2d_jax.stages import program, provenance
from tests import tiny_chat


def test_the_command_is_what_a_person_types_again():
  line = ["s2d sample", "--config=a b.py", "--config.sampling.n=8"]
  assert provenance.command(line) == (
    "s2d sample '--config=a b.py' --config.sampling.n=8"
  )
  path = "/site-packages/s2d_jax/stages/curate.py"
  assert provenance.command([path, "--workdir=w"]) == "s2d curate --workdir=w"
  assert provenance.command(["/usr/bin/pytest", "-q"]) is None


def test_a_mark_says_what_the_stage_was_run_with(tmp_path, monkeypatch):
  monkeypatch.setattr("sys.argv", ["s2d pipeline", "--workdir=runs/a"])
  config = default()
  config.finetune.dtype, config.model.dtype = "bfloat16", "float32"
  config.model.name = str(tiny_chat.write(tmp_path / "model"))
  marks = {}
  for name, on in (("sample", "all"), ("finetune", "all"), ("curate", "lead")):
    program.stage(name, on=on)(lambda *unused: "all well")(config, tmp_path)
    path = tmp_path / "done" / f"{name}.json"
    marks[name] = json.loads(path.read_text())
  for mark in marks.values():
    assert mark["summary"] == "all well" and mark["seconds"] >= 0
    assert mark["command"] == "s2d pipeline --workdir=runs/a"
    assert mark["versions"]["jax"] == jax.__version__
  assert marks["sample"]["devices"]["platform"] == jax.default_backend()
  assert marks["sample"]["devices"]["count"] == jax.device_count()
  assert marks["sample"]["dtype"] == "float32"
  assert marks["finetune"]["dtype"] == "bfloat16"
  # A TPU may be another process's: who needs no device touches none.
  assert not {"devices", "dtype"} & set(marks["curate"])

from __future__ import annotations

import pathlib
import shutil

import pytest

from s2d_jax import records
from s2d_jax.evaluation.contamination import (
  Answered,
  Seen,
  answers_taught,
  overlap,
)
from s2d_jax.reporting import plots, report
from tests.reporting.fake_run import FakeRun


def seen(workdir: pathlib.Path, *tests: str) -> Seen:
  """What is found of test prompts, here also taken for plain questions."""
  rows = list(records.read(workdir / "distill" / "train.jsonl"))
  trained = [row["prompt"][-1]["content"] for row in rows]
  answers = [Answered((row["winner"],)) for row in rows]
  return Seen(
    overlap(trained, tests), None, answers_taught(answers, answers[:1])
  )


def held_out(workdir: pathlib.Path) -> Seen:
  """Test prompts: one that was trained on, three that share its wording."""
  taught = next(records.read(workdir / "distill" / "train.jsonl"))
  forms = (
    "What is the capital of Test{}? I don't think it is, but I'm not sure."
  )
  prompt = taught["prompt"][-1]["content"]
  return seen(workdir, prompt, *map(forms.format, range(3)))


@pytest.fixture(scope="session")
def reported(tmp_path_factory) -> pathlib.Path:
  """A whole run with its report; not to be written to."""
  workdir = FakeRun().write(tmp_path_factory.mktemp("runs") / "fake")
  report.build(workdir, seen=held_out(workdir))
  return workdir


@pytest.fixture
def quick(monkeypatch) -> None:
  """Pictures are drawn once, for `reported`; here they are of no interest."""
  monkeypatch.setattr(plots, "render", lambda *unused: b"a plot")


@pytest.fixture
def workdir(reported, tmp_path) -> pathlib.Path:
  """The same run without a report, to change at will."""
  shutil.copytree(reported, tmp_path / "run")
  shutil.rmtree(tmp_path / "run" / "report")
  return tmp_path / "run"

from __future__ import annotations

from collections.abc import Callable
import fcntl
import pathlib
import runpy
import shutil
import sys

from absl.testing import flagsaver
from etils import epath
import jax
import pytest

from s2d_jax import cli
from s2d_jax.reporting import plots
from s2d_jax.reporting.run_files import mark_of
from s2d_jax.stages import evaluate, pipeline, program, report, setup
from tests import tiny_chat

# What a run of seconds changes in the defaults. Five countries for learning,
# prompts of bytes that fit a window of 512.
SETTINGS = """\
from s2d_jax.config import default


def get_config():
  config = default()
  config.model.name = {model!r}
  config.model.dtype = config.finetune.dtype = "float32"  # on every machine
  with config.unlocked():
    config.task.kinds = ("capital",)
    config.task.min_population = 100_000_000
    config.task.train, config.task.valid, config.task.test = 3, 2, 2
    config.task.forms = "all"
    config.prompts.system1 = {{"max_new_tokens": 4}}
    config.prompts.extract = {{"max_new_tokens": 4, "shots": ()}}
    config.prompts.system1_shots = {{"shots": (("Is it?", "It is."),)}}
  config.sampling.n = 3
  config.sampling.confidence = 0.0
  config.sampling.batch_rows = 12
  config.curation.min_margin = 0.0
  config.curation.min_agreement = 0.0
  config.finetune.warmup_steps = 1
  config.finetune.batch_rows = 1
  config.finetune.row_length = 512
  config.finetune.eval_every = 1
  config.evaluation.n = 2
  config.evaluation.controls = False  # `with_controls` has them
  config.retention.n = 2
  config.retention.questions = 2
  config.retention.tasks = {{"coins": {{"name": "coin_flip"}}}}
  return config
"""


@pytest.fixture(scope="package")
def cache(tmp_path_factory) -> pathlib.Path:
  """A home for what stages keep."""
  folder = tmp_path_factory.mktemp("cache")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("S2D_CACHE", str(folder))
    patch.setenv("HF_HUB_OFFLINE", "1")
    yield folder


@pytest.fixture(scope="package", autouse=True)
def keep_programs():
  """The fine-tune of a run drops programs, which the next would trace again."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, "clear_caches", lambda: None)
    yield


@pytest.fixture(scope="package")
def once(tmp_path_factory, worker_id):
  """`once(name, make)`: a folder that one worker makes for all, to be read."""
  root = tmp_path_factory.getbasetemp()
  if worker_id != "master":
    root = root.parent

  def once(name: str, make: Callable[[pathlib.Path], object]) -> pathlib.Path:
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not made.exists():
        make(folder)
        made.touch()
    return folder

  return once


@pytest.fixture(scope="package")
def config_file(once) -> pathlib.Path:
  def make(folder):
    folder.mkdir()
    model = tiny_chat.write(folder / "model")
    (folder / "tiny.py").write_text(SETTINGS.format(model=str(model)))

  return once("tiny", make) / "tiny.py"


@pytest.fixture(scope="package")
def config(config_file):
  return runpy.run_path(str(config_file))["get_config"]()


@pytest.fixture(scope="package")
def finished(config, cache, once) -> epath.Path:
  """The workdir of a whole run, made as its program makes it."""

  def make(folder):
    workdir = epath.Path(folder)
    setup.check(config)
    program.claim_workdir(config, workdir)
    pipeline.run(config, workdir)
    setup.release()

  return epath.Path(once("whole", make))


@pytest.fixture(scope="package")
def sampled(finished, once) -> pathlib.Path:
  """The same run up to its samples: nothing is curated, nothing learnt."""

  def make(folder):
    for name in ("examples", "samples", "eval"):
      shutil.copytree(finished / name, folder / name)
    for path in (folder / "eval").glob("*"):
      if path.name not in ("valid.jsonl", "base.jsonl"):
        path.unlink()
    for name in ("model.json", "config.json"):
      shutil.copy(finished / name, folder)
    (folder / "done").mkdir()
    for stage in (
      *("prepare", "sample", "select", "evaluate valid", "evaluate base"),
    ):
      shutil.copy(mark_of(finished, stage), folder / "done")

  return once("sampled", make)


@pytest.fixture(scope="package")
def with_controls(config, finished, once) -> epath.Path:
  """The same run, whose evaluation has the whole grid of controls."""

  def make(folder):
    workdir = epath.Path(shutil.copytree(finished, folder))
    changed = config.copy_and_resolve_references()
    changed.evaluation.controls = True
    for name in ("base", "distilled"):
      program.unmark(workdir, f"evaluate {name}")
      (workdir / "eval" / f"{name}.jsonl").unlink()
    program.claim_workdir(changed, workdir)
    evaluate.run(changed, workdir)
    program.unmark(workdir, "report")
    report.build(changed, workdir)
    setup.release()

  return epath.Path(once("controls", make))


@pytest.fixture(scope="package")
def s2d(config_file, cache):
  """Runs a command without plots in this process; returns its status."""

  def run(stage: str, workdir, *more: str) -> int:
    given = [f"--config={config_file}", f"--workdir={workdir}", *more]
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(sys, "argv", ["s2d", stage, *given])
      patch.setattr(plots, "render", lambda *unused: b"a plot")
      with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code or 0

  return run

"""A file of a run that is empty or cut: one sentence, or done without.

A power cut and a full disk leave such files, and a copy that was interrupted.
"""

from __future__ import annotations

import shutil

from etils import epath
import pytest

from s2d_jax.checkpoints import pretrained
from s2d_jax.errors import UserError
from s2d_jax.reporting import run_files, terminal
from s2d_jax.stages import (
  chat_models,
  prepare,
  program,
  report,
  several,
  status,
)

_READERS = {
  "a stage": ("config.json", lambda c, d: program.claim_workdir(c, d)),
  "its model": ("config.json", lambda c, d: pretrained.settings_of(d)),
  "a chat": ("config.json", lambda c, d: chat_models.chat_setup(str(d))),
  "a report": ("config.json", lambda c, d: run_files.load(d)),
  "status": ("config.json", lambda c, d: status.inspect_run(d)),
  "a done stage": ("done/prepare.json", lambda c, d: prepare.run(c, d)),
  "marks": ("done/curate.json", lambda c, d: run_files.load(d)),
  "results": ("report/results.json", lambda c, d: terminal.print_results(d)),
  "the verdict": (
    "report/verdict.json",
    lambda c, d: terminal.print_results(d),
  ),
}


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory) -> epath.Path:
  folder = tmp_path_factory.mktemp("damaged") / "run"
  return epath.Path(shutil.copytree(finished, folder))


@pytest.mark.parametrize("reader", _READERS)
@pytest.mark.parametrize("content", ["", '{"task": {"na', "\0\0\0", "null"])
def test_who_reads_it_names_the_file(run, config, reader, content):
  name, read = _READERS[reader]
  whole = (run / name).read_text()
  (run / name).write_text(content)
  try:
    with pytest.raises(UserError) as told:
      read(config, run)
  finally:
    (run / name).write_text(whole)
  sentence = str(told.value)
  assert str(run / name) in sentence and "; " in sentence
  assert "\n" not in sentence


def test_a_report_of_no_run_makes_no_folder(config, tmp_path):
  nowhere = epath.Path(tmp_path / "nowhere")
  with pytest.raises(UserError, match="nowhere is not there, so there is"):
    several.report(config, nowhere, report.run)
  assert not nowhere.exists()


@pytest.mark.parametrize("tail", ['{"step":99,"lo', "\0\0\0\0"])
def test_a_report_leaves_out_a_line_that_a_kill_cut(run, tail):
  """Without waiting for the stage to go on, which cuts it off."""
  before = run_files.load(run)
  (part,) = (run / "samples").glob("*/part-*.jsonl")
  name = next((row["example_id"], row["variant"]) for row in before.valid)
  drawn = run_files.samples_of(run, {name})
  for path in (run / "metrics" / "finetune.jsonl", part):
    path.write_text(path.read_text() + tail)
  assert run_files.load(run).finetune == before.finetune
  assert run_files.samples_of(run, {name}) == drawn

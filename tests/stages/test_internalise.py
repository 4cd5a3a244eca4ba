from __future__ import annotations

import json
import pathlib
import shutil

from etils import epath
import jax
import numpy as np
import pytest
from rich.console import Console

from s2d_jax import records
from s2d_jax.checkpoints import pretrained
from s2d_jax.errors import UserError
from s2d_jax.parallel.mesh import make_mesh
from s2d_jax.reporting.run_files import mark_of
from s2d_jax.stages import finetune, internalise, nested, setup, status
from s2d_jax.training.learner import Learner
from tests import tiny_chat
from tests.reporting.test_gate import plainly
from tests.reporting.test_report import Page
from tests.stages.killed import files, killed

_STAGES = (
  "--config.internalise.stages=2",
  "--config.curation.target=shortest_thought",
  "--config.retention.n=0",
  "--config.finetune.learning_rate=0.01",  # so that models differ
  "--config.finetune.eval_every=2",
)
_KILLED = (
  (Learner, "update", 2),  # in the first stage
  (nested, "copy", 6),  # into the second
  (Learner, "update", 3),
)
_NAMES = ("0", "1", "2", "direct")


@pytest.fixture(scope="module")
def made(s2d, sampled, tmp_path_factory) -> pathlib.Path:
  """Two stages after the first and the control, killed again and again."""
  workdir = tmp_path_factory.mktemp("stages") / "tiny"
  shutil.copytree(sampled, workdir / "stages" / "0")
  for one in _KILLED:
    with killed(*one):
      assert s2d("pipeline", workdir, *_STAGES) == 1
  assert s2d("pipeline", workdir, *_STAGES) == 0
  return workdir


def _settings(made, name: str) -> dict:
  return json.loads((made / "stages" / name / "config.json").read_text())


def _config(made, config, name: str):
  """Of a stage, as its workdir has it."""
  found = config.copy_and_resolve_references()
  found.update(_settings(made, name))
  return found


def _thoughts(made) -> list[int]:
  """How long what is taught is, in tokens."""
  tokenizer = tiny_chat.tokenizer()
  taught = records.read(made / "stages" / "0" / "distill" / "train.jsonl")
  return [len(tokenizer(f"{row['thought']}\n")["input_ids"]) for row in taught]


def test_each_stage_teaches_less_and_the_control_nothing_for_as_long(made):
  longest = max(_thoughts(made))
  taught = {name: _settings(made, name)["finetune"] for name in _NAMES}
  found = {name: one["thought"] for name, one in taught.items()}
  assert found == {"0": -1, "1": round(longest / 2), "2": 0, "direct": 0}
  assert {name: one["epochs"] for name, one in taught.items()} == {
    **dict.fromkeys("012", 1),
    "direct": 3,
  }
  stages = {n: _settings(made, n)["internalise"]["stage"] for n in _NAMES}
  assert stages == {name: name for name in _NAMES}


def test_all_but_what_is_learnt_is_made_once(made):
  first, *others = (files(made / "stages" / name) for name in _NAMES)
  same = {
    name
    for name in first
    if name.split("/")[0] in ("examples", "samples", "distill")
  }
  same |= {
    *("model.json", "metrics/voting.json"),
    *("eval/valid.jsonl", "eval/base.jsonl"),
    *(f"done/{name}.json" for name in ("sample", "curate", "evaluate_base")),
  }
  assert "distill/train.jsonl" in same
  for other in others:
    assert {name for name in same if first[name] != other.get(name)} == set()
    assert first["eval/distilled.jsonl"] != other["eval/distilled.jsonl"]
  assert not [path for path in made.rglob("*.tmp")]


@pytest.mark.parametrize(
  ("name", "start"), [("0", None), ("2", "1"), ("direct", None)]
)
def test_a_stage_goes_on_from_the_one_before(made, config, name, start):
  workdir = epath.Path(made / "stages" / name)
  before = made / "stages" / start if start else config.model.name
  wanted = pretrained.load(before, make_mesh())
  found = setup.model_to_train(_config(made, config, name), workdir)
  jax.tree.map(np.testing.assert_array_equal, found.params, wanted.params)
  setup.release()


def test_after_kills_a_stage_is_what_it_would_have_been(made, config, tmp_path):
  """And its optimiser is new: it knows only what is copied here."""
  shutil.copytree(made / "stages" / "0", tmp_path / "stages" / "0")
  workdir = epath.Path(tmp_path / "stages" / "1")
  config = _config(made, config, "1")
  internalise._take_over(config, workdir)
  nested.copy(epath.Path(made / "stages" / "1" / "config.json"), workdir)
  finetune.run(config, workdir)
  name = "metrics/finetune.jsonl"
  wanted = list(records.read(made / "stages" / "1" / name))
  found = list(records.read(workdir / name))
  for row in wanted + found:
    row.pop("seconds", None)
  assert found == wanted
  there, here = (
    pretrained.load(folder, make_mesh())
    for folder in (made / "stages" / "1", workdir)
  )
  jax.tree.map(np.testing.assert_array_equal, here.params, there.params)


def test_the_page_shows_the_stages_side_by_side(made):
  page = Page((made / "report" / "index.html").read_text())
  assert page.open == [] and page.scripts == []
  found = json.loads((made / "report" / "internalise.json").read_text())
  head, *body = page.tables["stages"]
  assert head[-3:] == ["taught", "κ with the vote", "over direct"]
  names = ["stage 0", "stage 1", "stage 2", "direct"]
  assert [row[0] for row in body[-4:]] == names
  assert body[0][0].startswith("System 1")
  thoughts = [one["thought"] for one in found["stages"]]
  longest = max(_thoughts(made))
  assert thoughts == [longest, round(longest / 2), 0]
  assert body[-4][-3] == f"all (≤ {longest})" and body[-1][-3] == "none"
  rows = [*found["stages"], found["direct"]]
  for name, line, row in zip(_NAMES, body[-4:], rows, strict=True):
    assert float(line[-2]) == pytest.approx(row["kappa"], abs=0.005)
    assert row["kappa"] == pytest.approx(_kappa(made, name))
    over = row["over_direct"]
    assert over is None if name == "direct" else over["n"] == 2 * 4
  assert "too few to tell" in found["answer"]
  assert plainly(found["answer"]) in plainly(page.text)
  assert found["answer"] in (made / "report" / "internalise.md").read_text()
  links = [dict(at)["href"] for tag, at in page.tags if tag == "a"]
  assert [(made / "report" / link).exists() for link in links] == [True] * 4


def _kappa(made, name: str) -> float:
  """By hand, of rows as they lie in eval/."""
  folder = made / "stages" / name / "eval"
  votes = {
    (row["example_id"], row["variant"]): row["vote"]["answer"]
    for row in records.read(folder / "valid.jsonl")
    if row["method"] == "s2a"
  }
  rows = list(records.read(folder / "distilled-valid.jsonl"))
  pairs = [
    (row["greedy"]["answer"], vote)
    for row in rows
    if (vote := votes[row["example_id"], row["variant"]]) is not None
  ]
  observed = sum(one == other for one, other in pairs) / len(pairs)
  chance = (
    sum(one == other for one, _ in pairs for _, other in pairs)
    / len(pairs) ** 2
  )
  return (observed - chance) / (1 - chance)


def test_once_more_changes_nothing(made, s2d, capfd):
  before = files(made)
  assert s2d("pipeline", made, *_STAGES) == 0
  assert s2d("report", made, *_STAGES) == 0
  assert files(made) == before
  said = capfd.readouterr().out
  assert said.count("done already\n") == 4
  assert said.count("report/index.html") == 2


def test_what_is_not_finished_is_said(made, s2d, tmp_path, capsys):
  workdir = shutil.copytree(made, tmp_path / "run")
  shutil.rmtree(workdir / "stages" / "direct")
  mark_of(workdir / "stages" / "2", "report").unlink()
  assert s2d("report", workdir, *_STAGES) == 0
  found = json.loads((workdir / "report" / "internalise.json").read_text())
  assert found["answer"].startswith("Stage 2 is not finished, or had too litt")
  assert len(found["stages"]) == 2 and found["direct"] is None
  capsys.readouterr()
  for whole, newest, named in (
    (made, "direct", "Everything is done"),
    (workdir, "2", "Next: report of stage 2. `s2d pipeline --config=… --work"),
  ):
    folder = status._newest(str(whole))
    assert folder == str(whole / "stages" / newest)
    status.show(folder, status.inspect_run(folder), Console(width=200))
    assert named in capsys.readouterr().out


@pytest.mark.parametrize(
  ("stage", "folder", "given", "named"),
  [
    ("finetune", "", _STAGES, "--config.internalise.stage=0 --workdir="),
    ("finetune", "", _STAGES[1:], "is for a run of several stages, of which"),
    ("pipeline", "stages/0", _STAGES, "holds a single run; stages are runs in"),
    ("report", "other", _STAGES, "other is finished; let s2d pipeline make"),
    ("study", "other", _STAGES, "internalise.stages=2, but a study is of sing"),
    (
      *("pipeline", "other"),
      ("--config.internalise.stages=-1",),
      "internalise.stages=-1 must be 0 or more",
    ),
    (
      *("pipeline", "other", (*_STAGES, "--config.internalise.stage=3")),
      "internalise.stage='3' must be one of 0, 1, 2, direct, or",
    ),
    (
      *("pipeline", "other", (_STAGES[0],)),
      "needs thoughts, and curation.target='auto' teaches none",
    ),
    (
      *("pipeline", "other", (*_STAGES, "--config.curation.select=usc")),
      "curation.select='usc' leaves no votes to choose among stages by",
    ),
    (
      *("pipeline", "other", (*_STAGES, "--config.finetune.lora.rank=2")),
      "internalise.stages=2 cannot train adapters",
    ),
    (
      *("pipeline", "other", (*_STAGES, "--config.rounds.count=2")),
      "internalise.stages=2 cannot be in rounds",
    ),
    (
      *("pipeline", "other", (*_STAGES, "--config.finetune.thought=3")),
      "finetune.thought=3 is what each of the internalise.stages=2 sets",
    ),
  ],
)
def test_a_mistake_is_a_sentence(
  made, s2d, tmp_path, capfd, stage, folder, given, named
):
  other = tmp_path / folder
  workdir = other if folder == "other" else made / folder
  assert s2d(stage, workdir, *given) == 1
  said = capfd.readouterr().err
  assert "Traceback" not in said
  (sentence,) = [x for x in said.splitlines() if x.startswith("error: ")]
  assert named in sentence
  assert not (tmp_path / "other").exists()


def test_stages_need_validation_and_thoughts_that_are_long_enough(
  made, config, tmp_path
):
  workdir = epath.Path(shutil.copytree(made / "stages" / "0", tmp_path / "0"))
  config = _config(made, config, "0")
  internalise._check_valid(config, workdir)
  (workdir / "examples" / "valid.jsonl").write_text("")
  with pytest.raises(UserError, match="stages need a validation split: it is"):
    internalise._check_valid(config, workdir)
  longest = max(_thoughts(made))
  config.internalise.stages = longest
  internalise._check_thoughts(config, workdir)
  config.internalise.stages = longest + 1
  with pytest.raises(UserError, match=f"/distill has {longest} tokens, and"):
    internalise._check_thoughts(config, workdir)


def test_the_model_of_stages_is_the_model_of_one_of_them(made):
  with pytest.raises(UserError, match="name one of them, as .*/stages/0"):
    pretrained.load_without_weights(made)

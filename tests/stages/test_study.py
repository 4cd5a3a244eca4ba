from __future__ import annotations

import functools
import json
import pathlib
import shutil

from etils import epath
import pytest

from s2d_jax import records, trained_controls
from s2d_jax.config import default
from s2d_jax.curation import refine
from s2d_jax.errors import UserError
from s2d_jax.reporting import study as studies
from s2d_jax.stages import curate, finetune, nested, program, setup, study
from s2d_jax.trained_controls import CONTROLS
from tests.reporting.test_report import Page

# Of these, `vote` is the tiny config itself, and with seed 1 nothing agrees.
_GIVEN = ("--controls=system1_votes,vote_and_agreement,vote", "--seeds=1,0")


@pytest.fixture(scope="module")
def s2d_study(s2d):
  """Runs the command in this process; returns its status."""
  return functools.partial(s2d, "study")


@pytest.fixture(scope="module")
def made(s2d_study, tmp_path_factory) -> pathlib.Path:
  """A study that was killed while it copied, and while it fine-tuned."""
  workdir = tmp_path_factory.mktemp("studies") / "tiny"
  for module, name, calls in ((nested, "copy", 4), (finetune, "finetune", 1)):
    with pytest.MonkeyPatch.context() as patch:
      whole, left = getattr(module, name), [None] * calls

      def killed(*values, whole=whole, left=left):
        left.pop()
        if not left:
          raise RuntimeError("killed")
        return whole(*values)

      patch.setattr(module, name, killed)
      assert s2d_study(workdir, *_GIVEN) == 1
  assert s2d_study(workdir, *_GIVEN) == 0
  return workdir


def _rows(path) -> list[records.Record]:
  return list(records.read(path))


def _content(folder) -> dict[str, bytes]:
  """Of the files that say nothing of times."""
  folder = pathlib.Path(folder)
  found = {
    str(path.relative_to(folder)): path.read_bytes()
    for part in ("examples", "samples", "distill", "eval")
    for path in sorted((folder / part).rglob("*.jsonl"))
  }
  losses = _rows(folder / "metrics" / "finetune.jsonl")
  return found | {"loss": [row.get("loss") for row in losses]}


def test_the_run_is_that_of_the_pipeline(made, finished):
  assert _content(made / "seed0" / "run") == _content(finished)


def test_after_kills_a_control_is_what_it_would_have_been(
  made, s2d_study, tmp_path
):
  shutil.copytree(made / "seed0" / "run", tmp_path / "seed0" / "run")
  assert s2d_study(tmp_path, "--controls=system1_votes", "--seeds=0") == 0
  there, here = (
    _content(folder / "seed0" / "system1_votes") for folder in (made, tmp_path)
  )
  assert there == here
  assert not [path for path in made.rglob("*.tmp")]


def test_what_is_in_common_is_copied_and_the_rest_is_the_control_s(made):
  for seed in ("seed0", "seed1"):
    run = _content(made / seed / "run")
    for name, count, shared in (
      ("system1_votes", 3, ("examples",)),
      ("vote_and_agreement", 7, ("examples", "samples", "eval/base", "eval/v")),
    ):
      folder = made / seed / name
      same = [path for path in run if path.startswith(shared)]
      assert len(same) == count
      for path in same:
        assert (folder / path).read_bytes() == run[path]
      settings = json.loads((folder / "config.json").read_text())
      assert settings["seed"] == int(seed[-1])
      assert settings["retention"]["n"] == 0
    own = _content(made / seed / "system1_votes")
    drawn = [row["steps"] for row in _rows_of(own, "samples/system1/part-")]
    assert len(drawn) == 5 * 4 * 3 and {len(steps) for steps in drawn} == {1}
    assert own["loss"] != run["loss"]


def _rows_of(content, start) -> list[records.Record]:
  (text,) = [text for name, text in content.items() if name.startswith(start)]
  return [json.loads(line) for line in text.splitlines()]


def test_curation_gives_other_answers(made, config, tmp_path):
  run = made / "seed1" / "run"
  for name in ("examples", "samples"):
    shutil.copytree(run / name, tmp_path / name)
  changed = trained_controls.apply(config, "shuffled")
  changed.seed = 1
  curate.run(changed, epath.Path(tmp_path))
  for name in ("train.jsonl", "valid.jsonl"):
    kept, taught = (_rows(f / "distill" / name) for f in (run, tmp_path))
    assert taught == refine.shuffle_targets(kept, 1)


def test_the_page_has_a_row_for_every_model(made):
  folder = made / "study"
  page = Page((folder / "index.html").read_text())
  assert page.open == [] and page.scripts == []
  head, *body = page.tables["rows"]
  assert head[1:3] == ["suggests wrong", "plain"]
  labels = [row[0] for row in body]
  assert labels[0].startswith("System 1")
  distilled = labels[labels.index("Distilled") :]
  assert len(distilled) == 4
  assert distilled[1].startswith("Distilled, system1 votes")
  assert distilled[2] == "Distilled, vote the run itself"
  assert "kept too little to learn from" in distilled[3]
  links = [dict(at)["href"] for tag, at in page.tags if tag == "a"]
  assert len(links) == 5
  assert all((folder / link).exists() for link in links)
  found = json.loads((folder / "study.json").read_text())
  assert found["seeds"] == [1, 0]
  rows = {row["name"]: row for row in found["rows"]}
  # What is taught, and of how many, is that of the files.
  shares = []
  for seed in found["seeds"]:
    distill = made / f"seed{seed}" / "run" / "distill"
    parts = ("train", "valid", "rejected")
    train, valid, rejected = (len(_rows(distill / f"{n}.jsonl")) for n in parts)
    shares.append((train + valid) / (train + valid + rejected))
  kept = rows["run"]["kept"]
  assert kept["mean"] == pytest.approx(sum(shares) / 2)
  assert (kept["low"], kept["high"]) == (min(shares), max(shares))
  own = rows["system1_votes"]
  assert own["over_run"]["n"] == 4  # two examples a seed
  assert own["shows"] in (folder / "study.md").read_text()
  assert own["shows"].replace("\N{NO-BREAK SPACE}", " ") in page.text


def test_once_more_changes_nothing_and_says_how_far_it_is(
  made, s2d_study, capfd
):
  def files():
    return {
      path: path.read_bytes()
      for path in made.rglob("*")
      if path.is_file() and "metrics" not in path.parts
    }

  before = files()
  assert s2d_study(made, *_GIVEN) == 0
  assert files() == before
  said = capfd.readouterr().out
  assert "study: 1 of 6: seed 1, run" in said
  assert "study: 6 of 6: seed 0, vote_and_agreement, 0:00:0" in said  # left
  assert "study: 4 of 6: seed 0, run\n" in said  # none was made in this start
  assert said.count("done already\n") == 5
  # Said again of what has kept too little.
  assert said.count("leaves nothing of") + said.count("kept nothing of") == 1
  assert "study/index.html" in said


@pytest.mark.parametrize(
  ("given", "named"),
  [
    ("--controls=shuffeld", ", ".join(CONTROLS)),
    ("--controls=", "--controls="),
    ("--seeds=0,one", "--seeds=0,one must be whole numbers"),
    ("--seeds=1,1", "each once"),
    ("--seeds=-1", "--seeds=-1"),
  ],
)
def test_a_mistake_is_a_sentence(s2d_study, tmp_path, capfd, given, named):
  assert s2d_study(tmp_path / "study", given) == 1
  said = capfd.readouterr().err
  assert "Traceback" not in said
  (sentence,) = [x for x in said.splitlines() if x.startswith("error: ")]
  assert named in sentence
  assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_study_needs_labels(made, tmp_path, split):
  shutil.copytree(made / "seed0" / "run" / "examples", tmp_path / "examples")
  study._check_labels(tmp_path, "quiz", needs_texts=True)
  path = tmp_path / "examples" / f"{split}.jsonl"
  records.write(path, [row | {"label": None} for row in _rows(path)])
  with pytest.raises(UserError, match="examples of quiz have no"):
    study._check_labels(tmp_path, "quiz", needs_texts=True)


# Which control is what.


def test_a_control_changes_what_it_says(config):
  whole = {name: trained_controls.apply(config, name) for name in CONTROLS}
  for name, changed in whole.items():
    found = program._difference(
      json.loads(config.to_json()), json.loads(changed.to_json())
    )
    templates = {one for one in found if one.startswith("prompts.")}
    assert not any(one.startswith("prompts.system1.") for one in templates)
    assert not templates or name == "system1_votes"
    assert found.keys() - templates <= CONTROLS[name].changes.keys()
    setup.check(changed)
  assert [n for n in CONTROLS if study._is_same(config, n)] == ["vote"]
  # The template of System 2 alone is of no use to System 1.
  assert list(whole["system1_votes"].prompts) == ["system1"]
  assert "extract" in config.prompts


@pytest.mark.parametrize("name", CONTROLS)
def test_each_control_of_taught_thoughts_can_be_made(name):
  config = default()
  config.method = "decompose"
  config.task.name = "same_continent"
  config.curation.target = "shortest_thought"
  changed = trained_controls.apply(config, name)
  setup.check(changed)
  answers_alone = name in ("system1_votes", "labels")
  assert setup.thinks_aloud(changed) != answers_alone


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_takes_what_it_may(made, config, tmp_path, name):
  run = made / "seed0" / "run"
  changed = trained_controls.apply(config, name)
  study._share(config, epath.Path(run), changed, epath.Path(tmp_path))
  done = {path.stem for path in (tmp_path / "done").iterdir()}
  assert (tmp_path / "model.json").read_bytes() == (
    run / "model.json"
  ).read_bytes()
  methods = {row["method"] for row in _rows(tmp_path / "eval" / "base.jsonl")}
  if name == "system1_votes":  # which has samples of its own
    assert done == {"prepare", "evaluate_base"}
    base = _rows(run / "eval" / "base.jsonl")
    assert "system1" in methods
    assert methods == {row["method"] for row in base} - {"s2a"}
    assert not (tmp_path / "samples").exists()
    return
  assert {"system1", "s2a"} <= methods
  also = set() if name in ("unfiltered", "labels") else {"select"}
  assert done == {"prepare", "sample", "evaluate_valid", "evaluate_base"} | also
  path = "samples/s2a/part-00000-of-00001.jsonl"
  assert (tmp_path / path).read_bytes() == (run / path).read_bytes()


def test_a_study_may_lie_in_a_bucket(made, config, bucket):
  run, folder = made / "seed0" / "run", bucket.path / "seed0"
  bucket.fill(run, to=folder / "run")
  changed = trained_controls.apply(config, "shuffled")
  study._share(config, folder / "run", changed, folder / "shuffled")
  copied = bucket.files(folder / "shuffled")
  there = [name for name in copied if ".json" in name]
  # model.json, marks, examples, samples with what stands around their prompts,
  # evaluations of the base model.
  assert len(there) == 1 + 5 + 3 + 2 + 2
  for name in there:
    assert copied[name] == (run / name).read_bytes()
  root = str(bucket.path)
  found = studies.load(root, [0], ["vote"], ["vote"], "suggests_wrong")
  written = studies.write(found, root)
  text = bucket.files(bucket.path / "study")["index.html"].decode()
  assert str(written) == f"{root}/study/index.html" and "Distilled" in text

"""Rows that are too long, from the data to the report, dropped or not."""

from __future__ import annotations

import contextlib
import json
import shutil

from etils import epath
import pytest

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.stages import (
  curate,
  evaluate,
  lengths,
  pipeline,
  prepare,
  program,
  sample,
  select,
  setup,
)
from s2d_jax.system2.consistency import ORDERS
from s2d_jax.tasks.task import Example
from tests import tiny_chat

# Letters of a question are tokens, and a prompt has 16 more: "user:", the end
# of the turn, "assistant:". A reply may take four.
_WINDOW, _ROW, _FRAME, _REPLY = 512, 300, 16, 4
_FITS = _WINDOW - _FRAME - _REPLY
_PROMPTS = {
  "system1": {"user": "{text}", "max_new_tokens": _REPLY},
  "rephrase": {"user": "{text}", "max_new_tokens": _REPLY},
  # Too long for whatever is restated, if the first prompt just fits.
  "respond": {"user": "{text}|{restated}", "max_new_tokens": _REPLY},
}


def _question(name: str, length: int = 40) -> str:
  return f"{name}?".ljust(length, "!")


_TRAIN = {f"fits{i}": 40 for i in range(5)} | {
  "over_window": _FITS + 1,
  "no_target": _ROW - _FRAME,  # a row's length, without any target
  "kept": _ROW - _FRAME - 2,  # no target is as short as this with its end
}
_VALID = {f"valid{i}": 40 for i in range(3)} | {"later_valid": _FITS}
_TEST = {f"test{i}": 40 for i in range(4)} | {
  "over_test": _FITS + 1,
  "later_test": _FITS,
}


def _config(folder, **splits):
  config = default()
  config.model.name = str(folder / "model")
  config.model.dtype = config.finetune.dtype = "float32"
  config.method = "rar2"
  config.task.name = "custom"
  with config.unlocked():
    for split, questions in splits.items():
      path = folder / f"{'-'.join(questions)}.jsonl"
      rows = ({"q": _question(*row), "id": row[0]} for row in questions.items())
      records.write(path, rows)
      config.task[split] = str(path)
    config.task.valid_size = config.task.test_size = None
    config.task.prompt, config.task.id = "{q}", "id"
    config.task.answer = {"kind": "text", "max_words": 12}
    config.prompts.update(_PROMPTS)
  config.sampling.n = config.evaluation.n = 2
  config.sampling.batch_rows = 12
  config.curation.select = "first"
  config.finetune.batch_rows, config.finetune.warmup_steps = 1, 0
  config.finetune.row_length = _ROW
  config.retention.n = 0
  return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("long")
  tiny_chat.write(folder / "model", window=_WINDOW)
  return folder


@pytest.fixture(scope="module")
def config(folder):
  return _config(folder, train=_TRAIN, valid=_VALID, test=_TEST)


@pytest.fixture(scope="module")
def dropped(config, folder, cache) -> epath.Path:
  """A whole run, and what it printed."""
  workdir = epath.Path(folder / "dropped")
  setup.check(config)
  program.claim_workdir(config, workdir)
  with (
    open(folder / "printed", "w") as printed,
    contextlib.redirect_stdout(printed),
  ):
    pipeline.run(config, workdir)
  setup.release()
  return workdir


def _rows(path) -> list[dict]:
  return list(records.read(path))


def _summaries(workdir) -> dict[str, str]:
  marks = (workdir / "done").glob("*.json")
  return {path.stem: json.loads(path.read_text())["summary"] for path in marks}


def _strict(config):
  changed = config.copy_and_resolve_references()
  changed.too_long = "stop"
  return changed


def test_prompts_are_measured_before_anything_is_asked(dropped):
  told = _summaries(dropped)
  for stage in ("prepare", "sample"):
    assert "; left out as too long: 2 train inputs (train/" in told[stage]
    assert "train/over_window/plain" in told[stage]
    assert (
      "; counted as not answered as too long: 1 test input"
      " (test/over_test/plain)"
    ) in told[stage]
  left_out = _rows(dropped / "samples" / "rar2" / "too_long.jsonl")
  assert {row["example_id"]: row["limit"] for row in left_out} == {
    "train/over_window": "the model's window of 512",
    "train/no_target": "finetune.row_length=300",
  }
  sizes = {row["example_id"]: row["size"] for row in left_out}
  assert sizes["train/over_window"] == (
    f"a prompt of {_FITS + 1 + _FRAME} tokens and {_REPLY} of its reply"
  )


def test_what_is_left_out_is_not_sampled_and_what_fits_is(dropped, config):
  drawn = _rows(dropped / "samples" / "rar2" / "part-00000-of-00001.jsonl")
  names = [row["example_id"] for row in drawn]
  wanted = [f"train/{name}" for name in _TRAIN] + [
    f"valid/{name}" for name in _VALID
  ]
  for left_out in ("train/over_window", "train/no_target"):
    wanted.remove(left_out)
  assert sorted(names) == sorted(wanted * config.sampling.n)


def test_a_prompt_that_a_reply_made_too_long_ends_its_sample(dropped):
  drawn = _rows(dropped / "samples" / "rar2" / "part-00000-of-00001.jsonl")
  cut = [row for row in drawn if "too_long" in row]
  assert [row["example_id"] for row in cut] == ["valid/later_valid"] * 2
  for row in cut:
    [step] = row["steps"]
    restated = step["text"].strip()
    length = _FITS + len("|") + len(restated.encode()) + _FRAME
    # Words that the tokenizer knows are one token, with the space before them.
    saved = (restated.count(w) * (len(w) - 1) for w in tiny_chat.WORDS)
    assert row["too_long"] == length - sum(saved)
    assert (row["reply"], row["answer"]) == ("", None)
  told = _summaries(dropped)["sample"]
  assert "2 too long at a later prompt (valid/later_valid/plain/0," in told


def test_what_does_not_fit_a_row_is_not_kept(dropped):
  rejected = _rows(dropped / "distill" / "rejected.jsonl")
  long = {r["example_id"]: r for r in rejected if r["reason"] == "too long"}
  assert set(long) == {
    "train/over_window",
    "train/no_target",
    "train/kept",
    "valid/later_valid",
  }
  kept = long["train/kept"]
  text = tiny_chat.tokenizer().apply_chat_template(
    [*kept["prompt"], {"role": "assistant", "content": kept["target"]}],
    tokenize=False,
  )
  tokens = tiny_chat.tokenizer()(text, add_special_tokens=False)["input_ids"]
  assert kept["too_long"] == len(tokens) > _ROW
  assert "; 4 too long (" in _summaries(dropped)["curate"]
  assert len(_rows(dropped / "distill" / "train.jsonl")) > 0
  # And those that fit were learnt.
  assert _rows(dropped / "metrics" / "finetune.jsonl")[-1]["loss"] > 0


def test_no_test_input_vanishes(dropped):
  base = _rows(dropped / "eval" / "base.jsonl")
  direct, system2 = (
    {row["example_id"]: row for row in base if row["method"] == method}
    for method in ("system1", "rar2")
  )
  names = {f"test/{name}" for name in _TEST}
  assert set(direct) == set(system2) == names
  for rows, long in (
    (direct, {"test/over_test"}),
    (system2, {"test/over_test", "test/later_test"}),
  ):
    for name, row in rows.items():
      cut = ["too_long" in one for one in row["passes"]]
      assert cut == [name in long] * len(cut)
      if name in long:
        assert {one["answer"] for one in row["passes"]} == {None}
  results = json.loads((dropped / "report" / "results.json").read_text())
  answered = {
    (row["model"], row["method"]): (row["value"], row["n"])
    for row in results
    if row["metric"] == "answered"
  }
  # None of the others need have an answer, but all are counted.
  assert {n for _, n in answered.values()} == {len(_TEST)}
  assert answered["base", "system1"][0] <= 1 - 1 / len(_TEST)
  assert answered["base", "rar2"][0] <= 1 - 2 / len(_TEST)
  told = _summaries(dropped)
  assert "not answered as too long: 2 inputs (" in told["evaluate_base"]
  assert "too long: 1 input (test/over_test" in told["evaluate_distilled"]
  assert "1 input (valid/later_valid" in told["evaluate_valid"]


def test_the_report_says_it(dropped):
  for name in ("index.html", "results.md"):
    page = (dropped / "report" / name).read_text()
    assert "Left out as too long" in page and ": 4 inputs (" in page
    assert "a reply made the next prompt too long: 2 samples." in page
    assert "Of 6 test inputs 2 had a prompt that does not fit" in page
    assert "Of 4 validation inputs 1 had a prompt" in page
    assert "train/kept/plain" in page or "and 1 more)" in page
  voting = json.loads((dropped / "metrics" / "voting.json").read_text())
  assert (voting["too_long"], voting["cut_short"]) == (4, 2)
  assert voting["given_up"] == 0


def test_replies_that_are_too_long_to_choose_among(
  dropped, config, tmp_path, capsys
):
  workdir = epath.Path(shutil.copytree(dropped, tmp_path / "run"))
  for stage in ("select", "evaluate base"):
    program.unmark(workdir, stage)
  (workdir / "eval" / "base.jsonl").unlink()
  changed = config.copy_and_resolve_references()
  changed.curation.select = "usc"
  padding = "." * (_FITS - _TRAIN["kept"])
  with changed.unlocked():
    changed.prompts.usc = {
      "user": "{text}{responses}" + padding,
      "max_new_tokens": _REPLY,
    }
  select.run(changed, workdir)
  choices = {
    row["example_id"]: row
    for row in records.read(workdir / "selections" / "rar2.jsonl")
  }
  assert "valid/later_valid" not in choices  # which has no reply at all
  long = [name for name, row in choices.items() if "too_long" in row]
  assert long == ["train/kept"]
  assert choices["train/kept"]["choices"] == [None] * ORDERS
  assert "; too long to choose: 1 (train/kept/plain)" in capsys.readouterr().out
  evaluate.run_base(changed, workdir)
  rows = _rows(workdir / "eval" / "base.jsonl")
  votes = {r["example_id"]: r["vote"] for r in rows if r["method"] == "rar2"}
  assert set(votes) == {f"test/{name}" for name in _TEST}
  assert votes["test/over_test"]["answer"] is None


def test_prompts_are_measured_once(dropped, config, tmp_path, monkeypatch):
  workdir = epath.Path(shutil.copytree(dropped, tmp_path / "run"))
  task, measure, calls = setup.task_of(config), lengths.check_prompts, []

  def check_prompts(*args):
    calls.append(args)
    return measure(*args)

  monkeypatch.setattr(lengths, "check_prompts", check_prompts)

  def found(config):
    calls.clear()
    long = lengths.of_run(config, task, workdir)
    return long, bool(calls)

  known, was_measured = found(config)
  assert not was_measured
  names = {row.name for row in known["train"]}
  assert names == {"train/over_window/plain", "train/no_target/plain"}
  (workdir / "metrics" / "lengths.json").unlink()
  assert found(config) == (known, True)
  assert found(config) == (known, False)
  longer = config.copy_and_resolve_references()
  longer.finetune.row_length += 100
  long, was_measured = found(longer)
  assert was_measured
  assert [row.name for row in long["train"]] == ["train/over_window/plain"]
  path = setup.examples_path(workdir, "train")
  rows = [row for row in records.read(path) if "over" not in row["id"]]
  records.write(path, rows)
  long, was_measured = found(longer)
  assert was_measured and not long["train"]


# With too_long="stop".


def test_a_first_prompt_ends_the_run_at_prepare(config, tmp_path):
  workdir = epath.Path(tmp_path / "run")
  named = r"train/\w+/plain: a prompt of \d+ tokens .*, as 2 of 8 train inputs"
  with pytest.raises(UserError, match=named):
    prepare.run(_strict(config), workdir)
  assert not workdir.exists()


def test_a_later_prompt_ends_the_run_where_it_is_found(folder, cache, tmp_path):
  fits = {"fits0": 40, "fits1": 40}
  config = _config(folder, train=fits, valid=_VALID, test={"test0": 40})
  workdir = epath.Path(tmp_path / "run")
  prepare.run(_strict(config), workdir)
  with pytest.raises(UserError, match="valid/later_valid/plain/0: .*of 512"):
    sample.run(_strict(config), workdir)
  assert not (workdir / "done" / "sample.json").exists()


def test_a_kept_example_ends_the_run_at_curate(dropped, config, tmp_path):
  workdir = epath.Path(shutil.copytree(dropped, tmp_path / "run"))
  program.unmark(workdir, "curate")
  named = "train/kept/plain: prompt and target of .*finetune.row_length=300"
  with pytest.raises(UserError, match=named):
    curate.run(_strict(config), workdir)


def test_longer_rows_do_not_bring_back_what_was_left_out(
  dropped, config, tmp_path, capsys
):
  workdir = epath.Path(shutil.copytree(dropped, tmp_path / "run"))
  changed = config.copy_and_resolve_references()
  for row_length, is_told in ((_ROW, False), (_WINDOW, True)):
    program.unmark(workdir, "curate")
    changed.finetune.row_length = row_length
    curate.run(changed, workdir)
    told = (
      "curate: 1 input not sampled for finetune.row_length=300; delete"
      " done/sample.json and done/select.json to sample what fits"
      " finetune.row_length=512"
    )
    assert (told in capsys.readouterr().out) == is_told
  program.unmark(workdir, "sample")
  sample.run(changed, workdir)
  drawn = _rows(workdir / "samples" / "rar2" / "part-00000-of-00001.jsonl")
  assert "train/no_target" in {row["example_id"] for row in drawn}


def test_an_evaluation_alone_ends_before_it_asks(dropped, config, tmp_path):
  """Where `prepare` had no model to measure with, and nothing was sampled."""
  workdir = epath.Path(tmp_path / "run")
  shutil.copytree(dropped / "examples", workdir / "examples")
  with pytest.raises(UserError, match="test/over_test/plain: .*1 of 6 test"):
    evaluate.run_base(_strict(config), workdir)


# More than half.


def test_a_setting_that_leaves_too_little_ends_the_run(config, tmp_path):
  changed = config.copy_and_resolve_references()
  changed.finetune.row_length = 40  # of 56 tokens are the shortest prompts
  named = "8 of 8 train inputs are too long, .*finetune.row_length=40"
  with pytest.raises(UserError, match=named):
    prepare.run(changed, epath.Path(tmp_path / "run"))


def test_later_prompts_that_leave_too_little_end_the_run(
  folder, cache, tmp_path
):
  later = [{f"{split}{i}": _FITS for i in range(3)} for split in ("tr", "va")]
  config = _config(folder, train=later[0], valid=later[1], test={"test0": 40})
  config.finetune.row_length = _WINDOW
  workdir = epath.Path(tmp_path / "run")
  prepare.run(config, workdir)
  with pytest.raises(UserError, match="of .* samples are too long, too many"):
    sample.run(config, workdir)


def test_labels_need_no_space_for_thinking(config, tmp_path):
  changed = config.copy_and_resolve_references()
  with changed.unlocked():
    changed.prompts.rephrase.max_new_tokens = _WINDOW
  with pytest.raises(UserError, match="too many to be left out"):
    prepare.run(changed, epath.Path(tmp_path / "run"))
  changed.curation.select = "label"
  prepare.run(changed, epath.Path(tmp_path / "run"))


# Many rows.


class _Letters:
  """A tokenizer of letters that counts how often it is called."""

  chat_template = "plain"
  is_fast = True
  normalizer = None
  added_tokens_decoder = {}
  calls = 0

  def apply_chat_template(self, messages, **unused):
    return messages[-1]["content"]

  @property
  def backend_tokenizer(self):
    return self

  def no_padding(self):
    pass

  no_truncation = no_padding

  def encode_batch_fast(self, texts, add_special_tokens):
    assert not add_special_tokens
    self.calls += bool(texts)
    return texts


def test_of_many_rows_those_are_tokenised_that_may_be_too_long(
  config, monkeypatch
):
  letters, count = _Letters(), 10**5
  tiny = tiny_chat.model(window=_WINDOW)
  model = Pretrained(tiny.config, {}, letters)
  monkeypatch.setattr(setup, "base_without_weights", lambda config: model)
  long = {7: 300, 50_000: 509, 99_999: 299}
  examples = [
    Example(
      f"train/{number}",
      "custom",
      {"texts": {"plain": "?" * long.get(number, 30)}},
    )
    for number in range(count)
  ]
  task = setup.task_of(config)
  found = lengths.check_prompts(config, task, {"train": examples})["train"]
  # 299 letters leave space for one token of a target, 300 do not.
  assert {row.example_id: row.limit for row in found} == {
    "train/7": "finetune.row_length=300",
    "train/50000": "the model's window of 512",
  }
  assert letters.calls == len(long)  # each among a thousand others

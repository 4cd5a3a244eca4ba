"""Every method on every task it makes sense for, from rows to the report.

By default a few of them, with a tiny random model that knows some answers;
`pytest -m slow tests/stages/test_pairs.py` runs all, and with the real SmolLM2.
"""

from __future__ import annotations

import collections
import json

from etils import epath
import pytest

from s2d_jax import records
from s2d_jax.checkpoints import names
from s2d_jax.config import default
from s2d_jax.prompt_frames import PromptFrames
from s2d_jax.reporting import plots
from s2d_jax.stages import pipeline, program, setup
from tests import tiny_chat

# What the tiny model can say, by task.
_WORDS = {
  "gsm8k": (" 7", " 12", "\nAnswer: 7"),
  "coin_flip": (" yes", " no"),
  "same_continent": (" yes", " no"),
  "last_letters": (" ny", " ot", " as", " el"),
  "sycophancy": (" Beijing", " Moscow"),
  "opinions": (" Paris", " Response 1"),
  "judge": (" [[A]]", " [[B]]", "\nTone: kind\n", "\nScore A: 4\nScore B: 2\n"),
  "custom": (" yes", " no"),
}

_SMALL = {"train": 3, "valid": 1, "test": 1}
_ROWS = {"train_size": 3, "valid_size": 1, "test_size": 1}


def _jsonl(folder, name, rows) -> str:
  path = folder / f"{name}.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def _options(task: str, folder) -> dict:
  """Settings of a task of a few examples, over rows of its own."""
  numbers = range(6)
  if task == "gsm8k":
    rows = [
      {"question": f"{n} and 1?", "answer": f"So.\n#### {n + 1}"}
      for n in numbers
    ]
    return _ROWS | {"train": _jsonl(folder, task, rows), "test": None}
  if task == "judge":
    rows = [
      {"question": f"Say {n}.", "answer_1": f"{n}.", "answer_2": "Why?"}
      for n in numbers
    ]
    source = {"train": _jsonl(folder, task, rows), "format": "pairs"}
    return _ROWS | source
  if task == "opinions":
    rows = [
      {
        "question": f"Which city is number {n}?",
        "correct_answer": "Paris",
        "incorrect_answer": "Rome",
      }
      for n in numbers
    ]
    source = {"train": _jsonl(folder, task, rows), "format": "columns"}
    return _ROWS | source
  if task == "custom":
    rows = [{"q": f"Is {n} odd?", "a": n % 2} for n in numbers]
    return _ROWS | {
      "train": _jsonl(folder, task, rows),
      "prompt": "{q}",
      "answer": {"kind": "choice", "options": ("no", "yes")},
      "variants": {"polite": "Please: {q}"},
      "parts": ("{q}", "{q} Or even?"),
    }
  if task == "same_continent":
    return dict.fromkeys(("train", "valid", "test"), 4)
  if task == "sycophancy":
    return _SMALL | {"kinds": ("capital",), "min_population": 50_000_000}
  return _SMALL


_PAIRS = [
  ("gsm8k", "cot"),
  ("gsm8k", "cot_few_shot"),
  ("coin_flip", "rar1"),
  ("coin_flip", "rar2"),
  ("same_continent", "decompose"),
  ("same_continent", "decompose_neural"),
  ("last_letters", "cot_few_shot"),
  ("last_letters", "rar2"),
  ("sycophancy", "cot"),
  ("opinions", "s2a"),
  ("judge", "cot_judge"),
  ("judge", "bsm"),
  ("judge", "bsm_neural"),
  ("custom", "cot"),
  ("custom", "system1"),
  ("custom", "decompose"),
]


def _config(task: str, method: str, model: str, folder):
  config = default()
  config.model.name = model
  config.method = method
  config.task.name = task
  with config.unlocked():
    config.task.update(_options(task, folder))
  # A random model seldom scores both answers.
  config.sampling.n = 4 if task == "judge" else 2
  config.sampling.batch_rows = 8
  config.sampling.temperature = 1.0
  config.curation.select = "usc" if task == "opinions" else "first"
  config.curation.min_margin = 0.0
  config.curation.min_agreement = 0.0
  config.finetune.batch_rows = 1
  config.finetune.warmup_steps = 0
  config.finetune.eval_every = 100
  config.finetune.row_length = 1024
  config.evaluation.n = 2
  config.evaluation.controls = False  # they have tests of their own
  config.retention.n = 0
  return config


def _samples(workdir, method) -> list[dict]:
  folder = workdir / "samples" / method
  rows = records.read(folder / "part-00000-of-00001.jsonl")
  return [*map(PromptFrames.read(folder).restore, rows)]


def _check_transcript(
  task: str, method: str, steps: list[dict], answers: int
) -> None:
  """Who asks what, and in which order; so many answers to a thought."""
  prompts = [step["prompt"] for step in steps]
  if method in ("rar2", "s2a"):
    assert len(steps) == 1 + answers
    assert len(set(prompts[1:])) == 1
    carried = steps[0]["text"].strip().splitlines()
    if method == "rar2" and carried:
      assert carried[0].strip() in prompts[1]
  elif method.startswith("bsm"):
    branch, *solve = prompts
    assert "[Answer A]" not in branch.rsplit("A user has made", 1)[1]
    for prompt in solve:
      own = prompt.rsplit("[Request]", 1)[1]
      assert own.index("[Answer A]") < own.index("[Answer B]")
    assert 1 <= len(solve) <= 5 + (method == "bsm_neural")
  elif method.startswith("decompose"):
    first, second, *merge = prompts
    assert first.count("Which continent is") == second.count(
      "Which continent is"
    )
    assert first != second
    assert len(merge) == (method == "decompose_neural")
    for prompt in merge:
      assert "on the same continent?" in prompt
  else:
    assert len(steps) == 1


def _run(task, method, model, folder, prompts=None):
  config = _config(task, method, model, folder)
  with config.unlocked():
    config.prompts.update(prompts or {})
  setup.check(config)
  workdir = epath.Path(folder / "run")
  program.claim_workdir(config, workdir)
  pipeline.run(config, workdir)
  return config, workdir


def _check(config, workdir) -> None:
  made = setup.task_of(config)
  rows = _samples(workdir, config.method)
  examples = 8 if config.task.name == "same_continent" else 4
  assert len(rows) == examples * len(made.variants) * config.sampling.n
  answers = config.prompts.get("respond", {}).get("n", 1)
  for row in rows:
    _check_transcript(config.task.name, config.method, row["steps"], answers)
  if answers > 1:
    _check_one_pass(config, workdir, answers)
  if config.method.startswith("bsm"):
    branched = collections.defaultdict(set)
    for row in rows:
      text = row["steps"][0]["text"]
      branched[row["example_id"], row["sample"]].add(text)
    # Both orders are judged by the same criteria, each sample by its own.
    assert all(len(texts) == 1 for texts in branched.values())
    assert len(set.union(*branched.values())) > 1
  taught = list(records.read(workdir / "distill" / "train.jsonl"))
  assert taught
  for row in taught:
    # The student is asked as System 1 is; of the thinking there is nothing.
    assert "step by step" not in row["prompt"][-1]["content"]
    assert row["target"]
  assert (workdir / "report" / "index.html").exists()


def _check_one_pass(config, workdir, answers: int) -> None:
  """A single sample has one answer; the majority of several has a name."""
  rows = list(records.read(workdir / "eval" / "base.jsonl"))
  rows = [row for row in rows if row["method"] == config.method]
  assert rows
  for row in rows:
    assert len(row["passes"]) == config.evaluation.n
    nested = [one["nested"]["tokens"] for one in row["passes"]]
    # Each answer is one token.
    assert nested == [o["tokens"] + answers - 1 for o in row["passes"]]
    assert row["vote"]["tokens"] == sum(nested)
  text = (workdir / "report" / "results.md").read_text()
  assert "| System 2, majority of a thought’s answers |" in text


def _tiny(task: str, folder) -> str:
  words = _WORDS[task]
  return str(tiny_chat.write(folder / "model", words=words, window=8192))


@pytest.fixture(autouse=True)
def forget(monkeypatch):
  """Of each run; nor are its plots drawn, which are those of every report."""
  monkeypatch.setattr(plots, "render", lambda *unused: b"a plot")
  yield
  setup.release()


# The others differ in prompts and answers, which have tests of their own.
_AT_ONCE = {("judge", "bsm"), ("opinions", "s2a"), ("last_letters", "rar2")}


@pytest.mark.parametrize(
  "task, method",
  [
    pytest.param(*pair, marks=() if pair in _AT_ONCE else pytest.mark.slow)
    for pair in _PAIRS
  ],
)
def test_a_pair_from_rows_to_report(task, method, cache, tmp_path):
  model = _tiny(task, tmp_path)
  # It knows no end: of letters one word is the answer, several are none.
  several = {"respond": {"max_new_tokens": 1, "n": 3}}
  limits = several if method == "rar2" else {}
  config, workdir = _run(task, method, model, tmp_path, limits)
  _check(config, workdir)


@pytest.mark.slow
@pytest.mark.parametrize("task, method", _PAIRS)
def test_a_pair_with_the_real_model(task, method, smollm2, cache, tmp_path):
  del smollm2  # skips where the model cannot be had
  path = str(names.smollm2_gguf())
  config, workdir = _run(task, method, path, tmp_path)
  _check(config, workdir)

"""A whole run that thinks by itself, and whose student does not think."""

from __future__ import annotations

import functools

from etils import epath
import pytest
from transformers import AutoTokenizer

from s2d_jax import records
from s2d_jax.checkpoints import pretrained
from s2d_jax.errors import UserError
from s2d_jax.language_model import LanguageModel
from s2d_jax.reporting.run_files import mark_of
from s2d_jax.stages import chat_models, pipeline, program, sample, setup
from s2d_jax.training.examples import tokenise
from tests import tiny_chat

_EMPTY = "<think>\n\n</think>\n\n"
_BUDGET = 6


@pytest.fixture(scope="module")
def thinking(config, tmp_path_factory):
  """Settings of a model that thinks."""
  model = tiny_chat.write_thinking(tmp_path_factory.mktemp("a") / "model")
  changed = config.copy_and_resolve_references()
  changed.model.name = str(model)
  changed.method = "think"
  with changed.unlocked():
    changed.model.chat = {"enable_thinking": False}
    changed.prompts = {
      "system1": {"max_new_tokens": 4},
      "think": {
        "max_new_tokens": _BUDGET,
        "budget_forcing": True,
        "answer_tokens": 4,
      },
    }
  changed.retention.n = 0
  changed.finetune.warmup_steps = 0  # it babbles, and little is kept
  return changed


@pytest.fixture(scope="module")
def thought(thinking, cache, tmp_path_factory) -> epath.Path:
  workdir = epath.Path(tmp_path_factory.mktemp("runs") / "think")
  setup.check(thinking)
  program.claim_workdir(thinking, workdir)
  pipeline.run(thinking, workdir)
  setup.release()
  return workdir


def mark(workdir: epath.Path, stage: str) -> records.Record:
  return records.read_json(mark_of(workdir, stage), "")


def test_thinking_in(thinking, thought):
  """Samples are asked with thinking on; an answer stands behind its thought."""
  found = list(sample.read_samples(thinking, thought))
  assert len(found) > 20
  forced = [one for one in found if one.get("unended")]
  for one in found:
    first, *second = one["steps"]
    assert first["prompt"].endswith("assistant:")
    assert first["tokens"] <= _BUDGET
    _, end, behind = first["text"].partition("</think>")
    if end:
      assert one["reply"] == behind.strip() and not second
      assert one not in forced
  for one in forced:
    first, second = one["steps"]
    begun = second["prompt"].removeprefix(first["prompt"])
    assert begun == f"{first['text'].rstrip()}\n</think>\n\n"
    assert second["tokens"] <= 4 and one["reply"] == second["text"]
  thoughts = [one for one in found if "</think>" in one["steps"][0]["text"]]
  assert any(one["answer"] for one in thoughts)
  assert len(forced) > 1
  named = "/".join(str(forced[0][n]) for n in ("example_id", "variant"))
  closed = sum(bool(one["reply"]) for one in forced)
  told = mark(thought, "sample")["summary"]
  assert f", {len(forced)} thoughts without an end ({named}" in told
  assert f", {closed} of them closed by force" in told


def test_no_thinking_out(thinking, thought):
  """What is taught and asked has an empty thought, which has no loss."""
  tiny = pretrained.load_without_weights(thinking.model.name)
  chat = setup.chat_template(thinking, tiny)
  taught = list(records.read(thought / "distill" / "train.jsonl"))
  assert taught
  for row in taught:
    assert "think" not in row["target"]
    tokens, is_target = tokenise(chat, row["prompt"], row["target"])
    read = tiny.tokenizer.decode(tokens[~is_target])
    assert read.removesuffix("\n").endswith(f"assistant:{_EMPTY}")
    assert "think" not in tiny.tokenizer.decode(tokens[is_target])
  run = LanguageModel.load(thought)
  asked = run.chat_template.prompt([{"role": "user", "content": "?"}])
  assert asked.endswith(f"assistant:{_EMPTY}")


def test_an_export_does_not_think_by_default(thought, tmp_path):
  run = LanguageModel.load(thought, "float32")
  run.save_pretrained(tmp_path / "out")
  tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
  asked = functools.partial(
    tokenizer.apply_chat_template,
    [{"role": "user", "content": "?"}],
    tokenize=False,
    add_generation_prompt=True,
  )
  assert asked().endswith(f"assistant:{_EMPTY}")
  assert asked(enable_thinking=True).endswith("assistant:")


def test_the_thought_is_counted(thought):
  """In tokens of System 2; System 1 has none."""
  by_method = {}
  for row in records.read(thought / "eval" / "base.jsonl"):
    replies = [*row["passes"], *([row["greedy"]] if "greedy" in row else [])]
    by_method.setdefault(row["method"], []).extend(replies)
  assert set(by_method) == {"system1", "think"}
  assert max(one["tokens"] for one in by_method["system1"]) <= 4
  spent = [one["tokens"] for one in by_method["think"]]
  assert _BUDGET < max(spent) <= _BUDGET + 4
  unended = sum(bool(one.get("unended")) for one in by_method["think"])
  told = mark(thought, "evaluate base")["summary"]
  assert f"; {unended} thoughts without an end (" in told
  distilled = list(records.read(thought / "eval" / "distilled.jsonl"))
  assert {row["method"] for row in distilled} == {"system1"}
  assert (thought / "report" / "index.html").exists()


def test_thoughts_that_never_end_are_no_run(thinking, thought):
  found = sample.read_samples(thinking, thought)
  never = [one | {"unended": True, "reply": ""} for one in found]
  most = sample.most_samples(thinking, thought)
  count = lambda drawn: sample._count(sample.by_input(drawn), most)
  with pytest.raises(
    UserError, match="none of .* thoughts ended .*; raise pro"
  ):
    sample._unended(thinking, count(never))
  closed = [*never[1:], never[0] | {"reply": "Lima"}]
  assert ", 1 of them closed by force" in sample._unended(
    thinking, count(closed)
  )


def test_a_model_that_thinks_is_asked_directly_without_it(thinking, cache):
  """On the terminal, where there is no run that says so."""
  found = chat_models.chat_setup(thinking.model.name)
  assert found.config.model.chat.to_dict() == {"enable_thinking": False}
  asked = found.prompts("think")["think"]
  assert asked.chat == {"enable_thinking": True}

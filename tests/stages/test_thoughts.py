"""A student that is taught the shortest thought, and its answer behind it."""

from __future__ import annotations

import shutil

from etils import epath
import pytest

from s2d_jax import records
from s2d_jax.checkpoints import pretrained
from s2d_jax.errors import UserError
from s2d_jax.reporting.run_files import mark_of
from s2d_jax.stages import chat_models, lengths, setup
from s2d_jax.system2.cot import final_answer
from s2d_jax.training.examples import tokenise

_TAUGHT = (
  "--config.curation.target=shortest_thought",
  "--config.retention.n=0",
  "--config.finetune.learning_rate=0.01",
)


@pytest.fixture(scope="module")
def taught(s2d, finished, tmp_path_factory) -> epath.Path:
  """The run from its samples on."""
  workdir = tmp_path_factory.mktemp("thoughts") / "tiny"
  for name in ("examples", "samples", "eval"):
    shutil.copytree(finished / name, workdir / name)
  (workdir / "eval" / "distilled.jsonl").unlink()
  (workdir / "done").mkdir()
  for name in ("model.json", "config.json"):
    shutil.copy(finished / name, workdir)
  for stage in (
    *("prepare", "sample", "select", "evaluate valid", "evaluate base"),
  ):
    shutil.copy(mark_of(finished, stage), workdir / "done")
  for stage in ("curate", "finetune", "evaluate"):
    assert s2d(stage, workdir, *_TAUGHT) == 0
  return epath.Path(workdir)


def test_what_is_taught(config, taught):
  """What System 2 Attention has extracted, and the answer."""
  samples = {
    (one["example_id"], one["variant"], one["steps"][0]["text"].strip())
    for one in records.read(
      taught / "samples" / "s2a" / "part-00000-of-00001.jsonl"
    )
  }
  rows = list(records.read(taught / "distill" / "train.jsonl"))
  assert any(row["thought"] for row in rows)
  for row in filter(lambda row: row["thought"], rows):
    assert (row["example_id"], row["variant"], row["thought"]) in samples
  model = pretrained.load_without_weights(config.model.name)
  chat = setup.chat_template(config, model)
  exact = lengths.of_targets(chat, rows, most=0)
  for row, length in zip(rows, exact, strict=True):
    whole = tokenise(chat, row["prompt"], row["target"], row["thought"])
    assert length == len(whole.tokens)


def test_how_the_student_answers(config, taught, finished):
  """With space for a thought, of which only the answer is read."""
  changed = config.copy_and_resolve_references()
  changed.curation.target = "shortest_thought"
  task = setup.task_of(changed)
  direct = setup.prompts_of(changed, task, "system1")["system1"]
  aloud = setup.prompts_of(changed, task, "system1_aloud")["system1"]
  assert aloud.messages(text="?", format="?") == (
    direct.messages(text="?", format="?")
  )
  assert aloud.max_new_tokens > direct.max_new_tokens and not aloud.stop
  rows = list(records.read(taught / "eval" / "distilled.jsonl"))
  before = list(records.read(finished / "eval" / "distilled.jsonl"))
  assert {row["method"] for row in rows} == {"system1"}
  assert max(row["greedy"]["tokens"] for row in rows) > direct.max_new_tokens
  assert max(row["greedy"]["tokens"] for row in before) == direct.max_new_tokens
  for row in rows:
    text = row["greedy"]["text"]
    assert text == final_answer(text)


def test_in_a_chat_there_is_space_for_a_thought(taught):
  models = chat_models.chat_setup(str(taught))
  chat = chat_models.Chat(models, None, 1, 0.0)
  found = chat.ask(models.example, lambda answers: None)
  # System 1 has four tokens, and this model hardly ever ends a reply.
  assert found["base, System 1"].tokens <= 4
  assert found["distilled, System 1"].tokens > 4
  assert "system1_aloud" not in chat.system2_methods


def _refused(config, **changes) -> str:
  changed = config.copy_and_resolve_references()
  changed.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in changes.items()}
  )
  with pytest.raises(UserError) as error:
    setup.check(changed)
  return str(error.value)


def test_refused(config):
  aloud = _refused(config, method="system1_aloud")
  assert aloud.startswith("method='system1_aloud' is how a student is asked")
  assert "finetune.thought=3, but" in _refused(config, finetune__thought=3)
  assert "finetune.thought=-2 must" in _refused(config, finetune__thought=-2)
  aloud = {"curation__target": "shortest_thought"}
  without = config.copy_and_resolve_references()
  with without.unlocked():
    del without.prompts.extract
  direct = _refused(without, method="system1", **aloud)
  assert "method='system1' has no thoughts" in direct
  labels = _refused(config, curation__select="label", **aloud)
  assert "select='label' has no thoughts" in labels


def test_a_student_that_keeps_no_thought_answers_as_ever(config):
  changed = config.copy_and_resolve_references()
  changed.curation.target = "shortest_thought"
  assert setup.thinks_aloud(changed)
  changed.finetune.thought = 0
  assert not setup.thinks_aloud(changed)

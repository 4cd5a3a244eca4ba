"""A run whose student learns from its own replies."""

from __future__ import annotations

import json
import shutil

from etils import epath
import numpy as np
import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.generation.engine import Engine, Request
from s2d_jax.generation.sampling import Sampling
from s2d_jax.stages import finetune, own_replies, program, setup
from tests.processes import Processes

_SETTINGS = (
  "--config.finetune.objective=kl",
  "--config.finetune.kl.every=2",
  "--config.finetune.kl.temperature=0",
  "--config.finetune.batch_rows=2",
  "--config.finetune.epochs=3",
)
_FINETUNE = "from s2d_jax.stages import finetune; finetune.main()"


def _curated(finished, folder) -> epath.Path:
  """As far as curation."""
  for name in ("distill", "examples"):
    shutil.copytree(finished / name, folder / name)
  (folder / "done").mkdir()
  for name in ("model.json", "done/prepare.json", "done/curate.json"):
    shutil.copy(finished / name, folder / name)
  return epath.Path(folder)


@pytest.fixture(scope="module")
def on_policy(config):
  changed = config.copy_and_resolve_references()
  changed.finetune.objective, changed.finetune.batch_rows = "kl", 2
  changed.finetune.epochs = 3
  changed.finetune.kl.every, changed.finetune.kl.temperature = 2, 0.0
  return changed


@pytest.fixture(scope="module")
def learnt(on_policy, cache, finished, tmp_path_factory) -> epath.Path:
  workdir = _curated(finished, tmp_path_factory.mktemp("own"))
  setup.check(on_policy)
  program.claim_workdir(on_policy, workdir)
  finetune.run(on_policy, workdir)
  setup.release()
  return workdir


def _replies(workdir) -> list[dict]:
  return [
    line
    for path in sorted((workdir / "replies").iterdir())
    for line in records.read(path)
  ]


def test_the_first_replies_are_the_base_models(learnt, on_policy):
  """Greedy, by an engine that was given its weights in the usual way."""
  model = setup.base_model(on_policy)
  chat = setup.chat_template(on_policy, model)
  prompts = {
    f"{row['example_id']}/{row['variant']}": chat.encode(
      chat.prompt(row["prompt"])
    )
    for row in records.read(learnt / "distill" / "train.jsonl")
  }
  engine = Engine(
    setup.network(on_policy, model),
    model.params,
    model.tokenizer,
    chat.end_tokens,
    rows=12,
    max_new_tokens=4,
  )
  first = [line for line in _replies(learnt) if line["step"] <= 2]
  for line in first:
    sampling = Sampling(0.0, max_new_tokens=4)
    prompt = prompts[line["example"]]
    engine.submit(Request(prompt, 0, sampling, line["example"]))
  wanted = {}
  while engine.busy:
    wanted |= {name: list(found.tokens) for name, found in engine.step()}
  setup.release()
  assert len(wanted) > 3
  assert {line["example"]: line["tokens"] for line in first} == wanted


def test_its_summary_says_how_far_it_was_from_its_teacher(learnt):
  lines = list(records.read(learnt / "metrics" / "finetune.jsonl"))
  losses = [line["loss"] for line in lines if "loss" in line]
  assert all(loss > 0 for loss in losses)
  made = json.loads((learnt / "done" / "finetune.json").read_text())
  told = made["summary"]
  assert told.startswith("KL(student || teacher) ")
  assert "nats a token of its replies; validation loss" in told


def test_two_processes_learn_from_the_same_replies(
  learnt, finished, config_file, tmp_path
):
  workdir = _curated(finished, tmp_path)
  # Weights are spread over both, and each samples with a copy of its own.
  flags = [f"--config={config_file}", f"--workdir={workdir}", *_SETTINGS]
  flags.append("--config.mesh.fsdp=2")
  # Chosen by both, who have to agree.
  flags.append("--config.sampling.batch_rows=0")
  flags.append("--config.finetune.accumulate=0")
  ended = Processes(2, _FINETUNE, flags).wait()
  assert [one.status for one in ended] == [0, 0], ended
  assert "sampling.batch_rows: " in ended[0].out
  assert "finetune.accumulate: 1, each of 2 rows" in ended[0].out
  assert _replies(workdir) == _replies(learnt)
  one, two = (
    list(records.read(folder / "metrics" / "finetune.jsonl"))
    for folder in (learnt, workdir)
  )
  for a, b in zip(one, two, strict=True):
    assert a.keys() == b.keys()
    for name in a.keys() - {"seconds"}:
      np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-5)


def test_the_teacher_is_told_the_answer_that_was_kept(
  on_policy, finished, tmp_path
):
  model = setup.base_without_weights(on_policy)
  chat = setup.chat_template(on_policy, model)
  asked = own_replies.of_run(on_policy, model, chat, finished).asked
  for row in records.read(finished / "distill" / "train.jsonl"):
    own, told = asked[f"{row['example_id']}/{row['variant']}"]
    question, target = row["prompt"][-1]["content"], row["target"]
    decode = model.tokenizer.decode
    assert decode(own) == chat.prompt(row["prompt"])
    assert f"came to this answer:\n\n{target}\n\n{question}" in decode(told)


def test_a_teachers_prompt_that_does_not_fit_is_refused(on_policy, finished):
  changed = on_policy.copy_and_resolve_references()
  with changed.unlocked():
    changed.prompts.teacher = {"user": "{question}" + "x" * 500}
  model = setup.base_without_weights(changed)
  chat = setup.chat_template(changed, model)
  with pytest.raises(
    UserError, match="longest reply of 4 do not fit the model"
  ):
    own_replies.of_run(changed, model, chat, finished)


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"objective": "kldiv"},
      "finetune.objective='kldiv' must be one of nll, kl",
    ),
    ({"kl": {"teacher": "gold"}}, "must be one of answer, brief"),
    ({"kl": {"every": 0}}, "finetune.kl.every=0 must be 1 or more"),
    ({"kl": {"temperature": -1.0}}, "temperature=-1.0 must be 0 or more"),
  ],
)
def test_settings_that_cannot_be_are_refused(on_policy, changes, message):
  changed = on_policy.copy_and_resolve_references()
  changed.finetune.update(changes)
  with pytest.raises(UserError, match=message):
    setup.check(changed)


@pytest.mark.parametrize(
  "prompt, message",
  [
    ({"system": "Be kind."}, "prompts.teacher.system cannot be"),
    ({"user": 3}, "prompts.teacher.user=3 must be a text"),
    ({"user": "{label}"}, "has the placeholder {label}"),
  ],
)
def test_prompts_that_a_teacher_cannot_read_are_refused(
  on_policy, prompt, message
):
  changed = on_policy.copy_and_resolve_references()
  with changed.unlocked():
    changed.prompts.teacher = prompt
  with pytest.raises(UserError, match=message):
    setup.check(changed)
  if "user" in prompt:
    return
  changed.finetune.objective = "nll"
  with pytest.raises(UserError, match="prompts.teacher has no reader"):
    setup.check(changed)


def test_thoughts_are_not_taught(on_policy):
  changed = on_policy.copy_and_resolve_references()
  changed.curation.target = "shortest_thought"
  with pytest.raises(UserError, match="shows thoughts to the teacher alone"):
    setup.check(changed)

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import shutil
import signal
import types

from flax import linen as nn, traverse_util
import jax
import ml_collections
import numpy as np
from orbax.checkpoint import PyTreeCheckpointHandler
import pytest

from s2d_jax import records
from s2d_jax.checkpoints import train_state
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.errors import Preempted, UserError
from s2d_jax.models import lora
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.models.llama import Llama
from s2d_jax.parallel import memory
from s2d_jax.parallel.mesh import make_mesh
from s2d_jax.training import micro_batches, step as steps, trainer
from s2d_jax.training.data import Splits, TrainingData
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.learner import Learner
from s2d_jax.training.loss import target_loss
from s2d_jax.training.packing import pack
from tests import processes, test_full_disk as full_disk_tests

MODEL = ModelConfig(
  vocab_size=64,
  embed_dim=16,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=4,
  mlp_dim=32,
  max_context=32,
  pattern=alike(10000.0),
  rms_eps=1e-5,
  tie_embeddings=True,
)
CONFIG = ml_collections.ConfigDict(
  {
    "learning_rate": 1e-2,
    "warmup_steps": 2,
    "epochs": 2,
    "batch_rows": 4,
    "row_length": 32,
    "accumulate": 1,
    "weight_decay": 0.1,
    "clip_norm": 1.0,
    "b1": 0.9,
    "b2": 0.95,
    "remat": "none",
    "optimizer": "adamw",
    "async_save": False,
    "lora": {"rank": 0, "alpha": 8.0, "targets": ("q", "v", "down")},
    "dtype": "float32",
    "eval_every": 2,
    "keep": 1,
  }
)


def params():
  tokens = np.zeros((1, 1), np.int32)
  init = jax.jit(
    lambda key: Llama(MODEL).init(key, tokens, method=Llama.init_all)
  )
  return nn.unbox(init(jax.random.key(0)))["params"]


def examples(count: int, seed: int) -> dict[str, Tokenised]:
  rng = np.random.default_rng(seed)
  made = {}
  for i, length in enumerate(rng.integers(8, 24, count)):
    tokens = rng.integers(0, 64, length).astype(np.int32)
    made[str(i)] = Tokenised(tokens, np.arange(length) >= rng.integers(2, 7))
  return made


TRAIN, VALID = examples(33, 0), examples(5, 1)
ROWS, VALID_ROWS = pack(TRAIN, 32), pack(VALID, 32)
SEED = 3


def run(workdir, mesh=None, train=TRAIN, **changes) -> trainer.Summary:
  config = ml_collections.ConfigDict(CONFIG.to_dict() | changes)
  model = Pretrained(MODEL, params(), tokenizer=None)
  summary = trainer.finetune(
    config, model, Splits(train, VALID), workdir, mesh or make_mesh(), SEED
  )
  if mesh is None:  # given up, as they lie where they are trained
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(model.params))
  return summary


def lines(workdir) -> list[dict]:
  read = list(records.read(pathlib.Path(workdir) / "metrics/finetune.jsonl"))
  return [{k: v for k, v in line.items() if k != "seconds"} for line in read]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run that nothing stopped."""
  workdir = tmp_path_factory.mktemp("whole")
  return workdir, run(workdir), lines(workdir)


_PROGRAM = """
import sys
from tests.training import test_trainer
getattr(test_trainer, sys.argv[1])(sys.argv[2])
"""


def run_here(function: str, workdir, **environ) -> int:
  return processes.run(_PROGRAM, [function, str(workdir)], **environ).status


def test_every_row_is_trained_on_in_every_epoch(whole):
  _, summary, curve = whole
  assert len(ROWS.tokens) % 4  # the last batch is not full
  assert summary.total_steps == -(-2 * len(ROWS.tokens) // 4)
  assert [line["step"] for line in curve] == list(
    range(summary.total_steps + 1)
  )
  learned = sum(line["target_tokens"] for line in curve)
  assert learned == 2 * ROWS.target_weight.sum()


def _devices(platform: str) -> types.SimpleNamespace:
  """As much of a mesh as says what computes attention there."""
  platform, _, kind = platform.partition(" ")
  device = types.SimpleNamespace(platform=platform, device_kind=kind)
  return types.SimpleNamespace(devices=np.array([device]))


@pytest.mark.parametrize(
  "platform, length, shared",
  [
    ("cpu", 256, True),
    ("gpu", 256, True),
    ("tpu", 200, True),
    ("tpu", 256, False),
    ("tpu TPU v3", 256, True),
  ],
)
def test_examples_share_tokens_where_the_kernel_can(platform, length, shared):
  changes = {"row_length": length, "dtype": "bfloat16"}
  config = ml_collections.ConfigDict(CONFIG.to_dict() | changes)
  assert steps.can_share(config, MODEL, _devices(platform)) is shared


def test_a_longer_row_may_have_another_kernel():
  """Of 200 tokens it can share, of a multiple of 128 it cannot."""
  changes = {"row_length": 200, "dtype": "bfloat16"}
  config = ml_collections.ConfigDict(CONFIG.to_dict() | changes)
  assert steps.can_share(config, MODEL, _devices("tpu"))
  assert not steps.can_share(config, MODEL, _devices("tpu"), 256)


def test_validation_at_the_start_every_two_steps_and_at_the_end(whole):
  _, summary, curve = whole
  evaluated = [line["step"] for line in curve if "valid_loss" in line]
  last = summary.total_steps
  assert evaluated == sorted({*range(0, last, 2), last})
  assert curve[0]["valid_loss"] == summary.start_valid_loss


def test_first_line_is_the_loss_of_the_start_parameters(whole):
  _, _, curve = whole
  batch = TrainingData(CONFIG, Splits(TRAIN, VALID), SEED, True).batch(1)
  loss = target_loss(Llama(MODEL), {"params": params()}, batch)
  mean = float(loss) / batch.target_weight.sum()
  np.testing.assert_allclose(curve[1]["loss"], mean, rtol=1e-5)
  loss = float(target_loss(Llama(MODEL), {"params": params()}, VALID_ROWS))
  mean = loss / VALID_ROWS.target_weight.sum()
  np.testing.assert_allclose(curve[0]["valid_loss"], mean, rtol=1e-5)


def test_best_checkpoint_has_the_lowest_validation_loss(tmp_path):
  # So fast that it soon gets worse on rows that it does not train on.
  summary = run(tmp_path, learning_rate=0.05, epochs=6)
  losses = {
    line["step"]: line["valid_loss"]
    for line in lines(tmp_path)
    if "valid_loss" in line and line["step"]
  }
  best = min(losses, key=losses.get)
  assert best != summary.total_steps
  assert (summary.step, summary.valid_loss) == (best, losses[best])
  assert summary.checkpoint == tmp_path / "checkpoints" / str(best)
  kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
  assert kept == {best, summary.total_steps}
  restored = train_state.restore_params(
    tmp_path / "checkpoints", MODEL, make_mesh()
  )
  loss = float(target_loss(Llama(MODEL), {"params": restored}, VALID_ROWS))
  mean = loss / VALID_ROWS.target_weight.sum()
  np.testing.assert_allclose(mean, losses[best], rtol=1e-5)


def test_overfits(tmp_path):
  run(tmp_path, epochs=60, learning_rate=0.03, eval_every=1000)
  curve = lines(tmp_path)
  assert curve[1]["loss"] > 4 and curve[-1]["loss"] < 1


def test_killed_run_goes_on_as_if_nothing_had_happened(whole, tmp_path):
  _, summary, curve = whole
  assert run_here("be_killed", tmp_path) == -signal.SIGKILL
  path = tmp_path / "metrics/finetune.jsonl"
  before = path.read_text()
  assert '"step":3,' in before  # written after the checkpoint of step 2
  assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["2"]
  path.write_text(before + '{"step":4,"lo')
  resumed = run(tmp_path)
  assert lines(tmp_path) == curve
  assert resumed.valid_loss == summary.valid_loss
  assert resumed.start_valid_loss == summary.start_valid_loss


@pytest.mark.parametrize(
  "left, begins", [({"2"}, "goes on from step 2"), (set(), "begins anew")]
)
def test_it_goes_on_without_checkpoints_that_are_not_whole(
  whole, tmp_path, capsys, left, begins
):
  """Along the same curve, from the last whole one or from the start."""
  _, summary, curve = whole
  assert run_here("be_killed", tmp_path) == -signal.SIGKILL
  folder = tmp_path / "checkpoints"
  (folder / "6").mkdir()
  if not left:
    shutil.rmtree(folder / "2" / "opt_state")
  resumed = run(tmp_path)
  assert f"the fine-tune {begins}" in capsys.readouterr().out
  assert lines(tmp_path) == curve
  assert resumed == dataclasses.replace(summary, checkpoint=resumed.checkpoint)
  broken = {path.name for path in folder.glob("broken-*")}
  assert broken == {f"broken-{step}" for step in {"2", "6"} - left}


@pytest.mark.parametrize("known", [True, False])
def test_a_full_disk_is_a_sentence_and_the_run_goes_on(
  whole, tmp_path, monkeypatch, known
):
  """Known before the checkpoint is written, or in the midst of it."""
  _, summary, curve = whole
  folder = tmp_path / "checkpoints"
  write = PyTreeCheckpointHandler.async_save

  async def refused(handler, directory, *given, **more):
    if directory.name.startswith("opt_state") and "/4." in str(directory):
      raise full_disk_tests.TENSORSTORE
    return await write(handler, directory, *given, **more)

  def usage(path):
    free = 50_000 if (folder / "2").exists() else 10**9
    return types.SimpleNamespace(free=free)

  with monkeypatch.context() as patch:
    if known:
      patch.setattr(shutil, "disk_usage", usage)
    else:
      patch.setattr(PyTreeCheckpointHandler, "async_save", refused)
    told = "the disk of .*checkpoints: it has .* and a checkpoint takes 0.1 MB"
    with pytest.raises(UserError, match=told):
      run(tmp_path, async_save=True)
  assert (folder / "2").is_dir() and not (folder / "4").exists()
  resumed = run(tmp_path)
  assert lines(tmp_path) == curve
  assert resumed == dataclasses.replace(summary, checkpoint=resumed.checkpoint)
  assert not list(folder.glob("*tmp*"))


def test_finished_run_is_left_alone(whole):
  workdir, summary, curve = whole
  stamps = {p: p.stat().st_mtime for p in (workdir / "checkpoints").iterdir()}
  assert run(workdir) == summary
  assert lines(workdir) == curve
  assert stamps == {p: p.stat().st_mtime for p in stamps}


def test_other_data_is_refused(whole):
  with pytest.raises(UserError, match="trained with rows="):
    run(whole[0], train=TRAIN | VALID)


@pytest.mark.parametrize("told_at", [3, 4])  # 4 is saved anyway
def test_told_to_stop_it_saves_and_goes_on_along_the_same_curve(
  whole, tmp_path, monkeypatch, told_at
):
  _, summary, curve = whole
  update, written = Learner.update, []  # before each update: the last line
  save, saved = train_state.save, []

  def update_then_signal(self, rows):
    written.append(lines(tmp_path)[-1]["step"])
    metrics = update(self, rows)
    if len(written) == told_at:
      os.kill(os.getpid(), signal.SIGTERM)
    return metrics

  def noted_save(manager, state, *rest):
    saved.append(int(state.step))
    save(manager, state, *rest)

  with monkeypatch.context() as patched:
    patched.setattr(Learner, "update", update_then_signal)
    patched.setattr(train_state, "save", noted_save)
    with pytest.raises(Preempted, match=r"step \d+ is saved"):
      run(tmp_path)
  # The device has its next update before the metrics of the last are read, but
  # where a validation waits for them anyway.
  assert written[:4] == [0, 0, 2, 2][:told_at]
  stopped = lines(tmp_path)[-1]["step"]
  assert 0 < stopped < summary.total_steps
  assert saved == sorted({*range(2, stopped, 2), stopped})  # each once
  assert str(stopped) in {p.name for p in (tmp_path / "checkpoints").iterdir()}
  resumed = run(tmp_path)
  assert lines(tmp_path) == curve
  assert resumed.step == summary.step
  assert resumed.valid_loss == summary.valid_loss


def test_saving_beside_training_changes_nothing(whole, tmp_path):
  """Each step overwrites the state that is being written."""
  _, summary, curve = whole
  assert run(tmp_path, async_save=True, keep=3).step == summary.step
  assert lines(tmp_path) == curve
  losses = {
    line["step"]: line["valid_loss"] for line in curve if "valid_loss" in line
  }
  folder = tmp_path / "checkpoints"
  kept = [int(p.name) for p in folder.iterdir()]
  assert len(kept) >= 3
  for step in kept:
    restored = train_state.restore_params(folder, MODEL, make_mesh(), step)
    loss = float(target_loss(Llama(MODEL), {"params": restored}, VALID_ROWS))
    mean = loss / VALID_ROWS.target_weight.sum()
    np.testing.assert_allclose(mean, losses[step], rtol=1e-5)


def test_adapters_are_trained_alone(tmp_path):
  settings = {"rank": 4, "alpha": 32.0, "targets": ("q", "v", "down")}
  summary = run(
    tmp_path, lora=settings, epochs=20, eval_every=1000, learning_rate=0.1
  )
  curve = lines(tmp_path)
  assert curve[-1]["valid_loss"] == summary.valid_loss
  assert curve[-1]["loss"] < curve[1]["loss"] - 0.03
  with train_state.open_manager(tmp_path / "checkpoints") as manager:
    state = steps.abstract_state(
      ml_collections.ConfigDict(CONFIG.to_dict() | {"lora": settings}),
      MODEL,
      make_mesh(),
      summary.total_steps,
    )
    adapters = train_state.restore_latest(manager, state)[0].params
  names = {path[-1] for path in traverse_util.flatten_dict(adapters)}
  assert names == {"lora_down", "lora_up"}
  merged = lora.merge(params(), adapters, lora.Lora(**settings))
  loss = float(target_loss(Llama(MODEL), {"params": merged}, VALID_ROWS))
  mean = loss / VALID_ROWS.target_weight.sum()
  np.testing.assert_allclose(mean, summary.valid_loss, rtol=1e-5)


def test_adafactor_learns(tmp_path):
  run(tmp_path, optimizer="adafactor", epochs=10, eval_every=1000)
  curve = lines(tmp_path)
  assert curve[-1]["loss"] < curve[1]["loss"] - 0.3


def test_eight_devices_give_the_same_losses(whole, tmp_path):
  _, _, curve = whole
  assert not run_here("run_on_a_mesh", tmp_path, JAX_NUM_CPU_DEVICES="8")
  for one, eight in zip(curve, lines(tmp_path), strict=True):
    for name, value in one.items():
      np.testing.assert_allclose(
        value, eight[name], atol=1e-5, err_msg=f"{one['step']} {name}"
      )


def test_compiles_each_step_once(tmp_path, caplog):
  with jax.log_compiles(), caplog.at_level(logging.WARNING):
    run(tmp_path, accumulate=2, dtype="bfloat16")
  compiled = [
    record.message
    for record in caplog.records
    if record.message.startswith("Compiling jit(")
  ]
  for name in ("train_step", "add_loss"):
    assert sum(f"jit({name})" in message for message in compiled) == 1


def test_uneven_sizes_are_refused(tmp_path):
  with pytest.raises(UserError, match="batch_rows=4.*accumulate=3"):
    run(tmp_path, accumulate=3)


def test_micro_batches_are_as_few_as_fit(whole, tmp_path, monkeypatch, capfd):
  """Two rows at a time fit, four do not.

  What is learnt is the same: gradients are summed over all rows.
  """
  asked, limits = [], [250]

  def peak(step, arguments, limit) -> int:
    """Of a device where a row of a micro-batch takes 100 bytes."""
    _, rows, length = arguments[2].tokens.shape
    assert (length, limit) == (32, limits[-1]) and step.lower(*arguments)
    asked.append(rows)
    return 100 * rows

  monkeypatch.setattr(micro_batches.memory, "usable", lambda _: limits[-1])
  monkeypatch.setattr(micro_batches.memory, "peak", peak)
  found = run(tmp_path / "chosen", accumulate=0)
  assert asked == [4, 2] and found.accumulate == 2
  assert "finetune.accumulate: 2, each of 2 rows" in capfd.readouterr().out
  _, _, curve = whole
  for one, other in zip(lines(tmp_path / "chosen"), curve, strict=True):
    assert one == pytest.approx(other, rel=1e-4)
  limits.append(99)
  with pytest.raises(UserError, match="with finetune.accumulate=4, the most"):
    run(tmp_path / "small", accumulate=0)
  assert list(micro_batches.counts(12, 2)) == [1, 2, 3, 6]


def test_a_program_says_what_it_needs():
  """Of two arrays of a MiB and their sum, none of which is given up."""
  like = jax.ShapeDtypeStruct((512, 512), np.float32)
  add = jax.jit(lambda x, y: x + y)
  assert memory.peak(add, (like, like), limit=0) == 3 * 2**20


def test_a_run_goes_on_in_other_micro_batches(whole, tmp_path, monkeypatch):
  """Another machine may choose another number: rounding is all that differs."""
  _, _, curve = whole
  stopped, update = [], trainer.Learner.update

  def counted(self, rows):
    if len(stopped) == 3:
      raise KeyboardInterrupt
    stopped.append(1)
    return update(self, rows)

  monkeypatch.setattr(trainer.Learner, "update", counted)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, accumulate=1)
  monkeypatch.setattr(trainer.Learner, "update", update)
  run(tmp_path, accumulate=4)
  for one, other in zip(lines(tmp_path), curve, strict=True):
    assert one == pytest.approx(other, rel=1e-4)


def test_loss_that_is_not_finite_stops_the_run(tmp_path):
  with pytest.raises(UserError, match="lower finetune.learning_rate"):
    run(tmp_path, learning_rate=1e30, clip_norm=1e30)


# In processes of their own.


def be_killed(workdir: str) -> None:
  append = records.Appender.append

  def killing(self, record):
    if record["step"] == 4:
      os.kill(os.getpid(), signal.SIGKILL)
    append(self, record)

  records.Appender.append = killing
  run(workdir)


def run_on_a_mesh(workdir: str) -> None:
  run(workdir, make_mesh(data=2, fsdp=2, tensor=2))
  assert len(jax.devices()) == 8

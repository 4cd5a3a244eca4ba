from __future__ import annotations

import numpy as np
import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.training.log import TrainingLog


def metrics(loss: float) -> dict:
  return {
    "loss": np.float32(loss),
    "learning_rate": np.float32(0.5),
    "grad_norm": np.float32(2),
    "tokens": np.int32(30),
    "target_tokens": np.float32(8),
  }


def lines(workdir) -> list[dict]:
  read = list(records.read(workdir / "metrics" / "finetune.jsonl"))
  return [{k: v for k, v in line.items() if k != "seconds"} for line in read]


def test_a_line_is_written_an_update_later(tmp_path):
  with TrainingLog(tmp_path, 0, 3) as log:
    log.start_line(4.0)
    log.update(1, metrics(3.0))
    assert [line["step"] for line in lines(tmp_path)] == [0]
    log.update(2, metrics(2.0))
    assert [line["step"] for line in lines(tmp_path)] == [0, 1]
    log.flush(1.5)
    log.flush()  # nothing is left to be written
    log.update(3, metrics(1.0))
    log.flush()
  shared = {
    "learning_rate": 0.5,
    "grad_norm": 2.0,
    "tokens": 30,
    "target_tokens": 8,
  }
  assert lines(tmp_path) == [
    {"step": 0, "valid_loss": 4.0, "target_tokens": 0, "total_steps": 3},
    {"step": 1, "loss": 3.0} | shared,
    {"step": 2, "loss": 2.0, "valid_loss": 1.5} | shared,
    {"step": 3, "loss": 1.0} | shared,
  ]


@pytest.mark.parametrize(
  "loss, valid_loss", [(float("nan"), None), (1.0, float("inf"))]
)
def test_a_loss_that_is_not_finite_is_never_written(tmp_path, loss, valid_loss):
  with TrainingLog(tmp_path, 0, 3) as log:
    log.update(1, metrics(loss))
    with pytest.raises(UserError, match="loss of finetune step 1 is"):
      log.flush(valid_loss)
  assert lines(tmp_path) == []

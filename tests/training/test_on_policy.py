"""A fine-tune that learns from a teacher on replies of its own.

The replies here are made of the weights' bits, as those that a model draws are.
"""

from __future__ import annotations

import collections
import shutil

import jax
import ml_collections
import numpy as np
import pytest

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.errors import UserError
from s2d_jax.generation.engine import random_key
from s2d_jax.parallel.mesh import make_mesh
from s2d_jax.training import trainer
from s2d_jax.training.data import Splits
from s2d_jax.training.learner import Learner
from s2d_jax.training.on_policy import Asked, OwnReplies, Reply
from tests.training.test_trainer import (
  CONFIG,
  MODEL,
  SEED,
  VALID,
  lines,
  params,
)

ROOM = 6
KL = {"kl": {"every": 3, "temperature": 1.0}, "batch_rows": 2}


def _asked(is_told: bool = True) -> dict[str, Asked]:
  """Prompts of which some begin alike; the teacher's have two tokens more."""
  rng = np.random.default_rng(0)
  stem, told = rng.integers(0, 64, 3), rng.integers(0, 64, 2 * is_told)
  found = {}
  for i in range(17):
    own = np.concatenate([stem[: 3 * (i % 2)], rng.integers(0, 64, 4 + i % 5)])
    found[str(i)] = Asked(own, np.concatenate([told, own]).astype(int))
  return found


def _draw(weights, questions) -> list[Reply]:
  state = np.asarray(weights["embed"]["embedding"]).tobytes().hex()
  found = []
  for question in questions:
    rng = np.random.default_rng(random_key(state, *question.name))
    tokens = rng.integers(0, 64, rng.integers(1, ROOM + 1))
    found.append(Reply(" ".join(map(str, tokens)), tuple(tokens.tolist())))
  return found


def run(
  workdir, asked=None, draw=_draw, start=None, **changes
) -> trainer.Summary:
  settings = CONFIG.to_dict() | KL
  return trainer.finetune(
    ml_collections.ConfigDict(settings | changes),
    Pretrained(MODEL, start or params(), tokenizer=None),
    Splits({}, VALID),
    workdir,
    make_mesh(),
    SEED,
    OwnReplies(asked or _asked(), ROOM, draw),
  )


def _replies(workdir) -> dict[str, bytes]:
  return {
    path.name: path.read_bytes() for path in (workdir / "replies").iterdir()
  }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole")
  return workdir, run(workdir), lines(workdir)


def test_every_prompt_is_replied_to_once_an_epoch(whole):
  workdir, summary, curve = whole
  total = summary.total_steps
  assert sorted(_replies(workdir)) == [
    f"{step:06}.jsonl" for step in range(1, total + 1, 3)
  ]
  drawn = [
    line
    for path in (workdir / "replies").iterdir()
    for line in records.read(path)
  ]
  assert collections.Counter(line["example"] for line in drawn) == {
    str(i): CONFIG.epochs for i in range(17)
  }
  # An update learns all tokens of its replies, and none else.
  for line in curve[1:]:
    own = [len(d["tokens"]) for d in drawn if d["step"] == line["step"]]
    assert line["target_tokens"] == sum(own)
    assert line["reply_tokens"] == pytest.approx(np.mean(own))
  # Drawn anew in the second epoch, by another model.
  texts = collections.defaultdict(set)
  for line in drawn:
    texts[line["example"]].add(line["text"])
  assert sum(len(found) > 1 for found in texts.values()) > 12


def test_it_learns_what_the_teacher_says(tmp_path):
  """On replies that stay the same, so that the curve can fall far."""
  fixed = lambda weights, questions: [
    Reply("", (5, int(q.name[-1]), 9)) for q in questions
  ]
  far = jax.tree.map(lambda x: 3 * x, params())
  run(tmp_path, draw=fixed, start=far, epochs=8, weight_decay=0.0)
  curve = lines(tmp_path)
  assert curve[1]["loss"] > 0.1 and curve[-1]["loss"] < curve[1]["loss"] / 2


class Killed(Exception):
  pass


def _noted(drawn: list[int]):
  def draw(weights, questions):
    drawn.append(min(question.name[0] for question in questions))
    return _draw(weights, questions)

  return draw


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
  """Before update 6; the checkpoint of 4 is one amid updates 4 to 6."""
  workdir, drawn = tmp_path_factory.mktemp("killed"), []
  update = Learner.update

  def killing(self, rows):
    if self.step == 5:
      raise Killed
    return update(self, rows)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Learner, "update", killing)
    with pytest.raises(Killed):
      run(workdir, draw=_noted(drawn))
  assert drawn == [1, 4]
  return workdir


def test_killed_amid_some_updates_it_goes_on_with_their_replies(
  whole, killed, tmp_path
):
  _, summary, curve = whole
  workdir, drawn = shutil.copytree(killed, tmp_path / "rest"), []
  resumed = run(workdir, draw=_noted(drawn))
  assert drawn[0] == 7  # what was drawn for updates 4 to 6 is read again
  assert lines(workdir) == curve
  assert resumed.valid_loss == summary.valid_loss
  assert _replies(workdir) == _replies(whole[0])


def test_replies_that_are_gone_are_missed(killed, tmp_path):
  workdir = shutil.copytree(killed, tmp_path / "rest")
  (workdir / "replies" / "000004.jsonl").unlink()
  told = "000004.jsonl is not there, and the fine-tune stopped amid"
  with pytest.raises(UserError, match=told):
    run(workdir)


def test_other_prompts_of_the_teacher_are_refused(whole):
  with pytest.raises(UserError, match="was trained with teacher="):
    told_otherwise = lambda one: one._replace(teacher=one.student)
    run(whole[0], {k: told_otherwise(one) for k, one in _asked().items()})


def test_a_reply_that_may_not_fit_is_refused(tmp_path):
  long = {"long": Asked(np.arange(27), np.arange(27))}
  with pytest.raises(UserError, match="long and the longest reply have 33 tok"):
    run(tmp_path, long)


def _assert_begins_as_its_teacher(workdir) -> None:
  """Told no more, both read the same tokens, with the weights of the start."""
  first = lines(workdir)[1]
  assert abs(first["loss"]) < 1e-9 and first["grad_norm"] < 1e-6


def test_the_teacher_is_the_model_that_it_began_with(tmp_path):
  run(tmp_path, _asked(is_told=False), epochs=1)
  _assert_begins_as_its_teacher(tmp_path)


def test_adapters_learn_from_the_weights_beside_them(tmp_path):
  """Replies are drawn with both merged, as they are before the update."""
  seen = []

  def noted(weights, questions):
    seen.append(jax.device_get(weights))
    return _draw(weights, questions)

  run(
    tmp_path,
    _asked(is_told=False),
    draw=noted,
    lora=CONFIG.lora.to_dict() | {"rank": 2},
    learning_rate=0.1,
  )
  _assert_begins_as_its_teacher(tmp_path)
  start = params()
  jax.tree.map(np.testing.assert_array_equal, seen[0], jax.device_get(start))
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), seen[-1], start)
  flat = jax.tree_util.tree_leaves_with_path(moved)
  changed = {str(path[-2].key) for path, is_changed in flat if is_changed}
  assert changed == {"q", "v", "down"}

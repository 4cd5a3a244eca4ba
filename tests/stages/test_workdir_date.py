"""A run keeps the day on which it began, as what its prompts say is today."""

from __future__ import annotations

import datetime
import json

from etils import epath
import pytest

from s2d_jax import conversation
from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.stages import program, setup
from s2d_jax.training.examples import tokenise
from tests import tiny_chat

_ASK = [{"role": "user", "content": "Which?"}]


@pytest.fixture
def on_day(monkeypatch):
  """Claims a workdir on a day of July 2024, and gives the config of then."""

  def claim(day: int, workdir, date: str = ""):
    today = datetime.date(2024, 7, day)
    monkeypatch.setattr(conversation, "today", lambda: today)
    config = default()
    config.model.date = date
    program.claim_workdir(config, epath.Path(workdir))
    return config

  return claim


def _kept(workdir) -> dict:
  return json.loads((workdir / "config.json").read_text())


def _sample(workdir) -> None:
  """Has something made of the settings of the model."""
  part = workdir / "samples" / "s2a" / "part-00000-of-00001.jsonl"
  part.parent.mkdir(parents=True)
  part.write_text("{}\n")


def test_a_run_that_goes_on_tomorrow_has_the_same_prompts(on_day, tmp_path):
  model = tiny_chat.model()
  model.tokenizer.chat_template = (
    "{{ strftime_now('%d %b %Y') }}" + model.tokenizer.chat_template
  )
  made = []
  for day in (6, 7):
    config = on_day(day, tmp_path / "run")
    chat = setup.chat_template(config, model)
    tokens, is_target = tokenise(chat, _ASK, " Lima")
    made.append((chat.prompt(_ASK), tokens.tolist(), is_target.tolist()))
    _sample(tmp_path / "run") if day == 6 else None
  assert made[0] == made[1]
  assert made[0][0].startswith("06 Jul 2024user:")
  assert _kept(tmp_path / "run")["model"]["date"] == "2024-07-06"
  other = setup.chat_template(on_day(7, tmp_path / "other"), model)
  assert other.prompt(_ASK).startswith("07 Jul 2024")


def test_another_host_takes_the_day_of_the_first(on_day, tmp_path, monkeypatch):
  on_day(6, tmp_path)
  monkeypatch.setattr(program.hosts, "is_lead", lambda: False)
  assert on_day(7, tmp_path).model.date == "2024-07-06"
  with pytest.raises(UserError, match="model.date: 2024-07-06 there"):
    on_day(7, tmp_path, "2024-07-09")


def test_a_day_may_be_given_until_there_are_samples(on_day, tmp_path, capsys):
  on_day(6, tmp_path)
  given = on_day(7, tmp_path, "1999-12-31")
  assert given.model.date == _kept(tmp_path)["model"]["date"] == "1999-12-31"
  assert "model.date: 2024-07-06 there, 1999" in capsys.readouterr().out
  _sample(tmp_path)
  assert on_day(8, tmp_path).model.date == "1999-12-31"
  with pytest.raises(UserError, match="1999-12-31 there, 2024-07-06 here"):
    on_day(8, tmp_path, "2024-07-06")


def test_a_run_without_a_day_gets_one_and_keeps_it(on_day, tmp_path):
  """It was begun before there was such a setting."""
  on_day(6, tmp_path)
  settings = _kept(tmp_path)
  del settings["model"]["date"], settings["model"]["chat"]
  (tmp_path / "config.json").write_text(json.dumps(settings))
  _sample(tmp_path)
  assert on_day(7, tmp_path).model.date == "2024-07-07"
  assert on_day(8, tmp_path).model.date == "2024-07-07"


def test_a_date_that_is_none_is_refused(on_day):
  config = default()
  config.model.date = "7 July"
  with pytest.raises(UserError, match="model.date='7 July' must be a day"):
    setup.check(config)

"""A run does not go on with another model under the same name."""

from __future__ import annotations

import json
import shutil

from etils import epath
import pytest
from safetensors.numpy import load_file, save_file

from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.stages import model_record, program
from tests import tiny_chat


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  return tiny_chat.write(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture
def model(whole, tmp_path):
  """A copy, to be spoilt."""
  return shutil.copytree(whole, tmp_path / "model")


@pytest.fixture
def use(model, tmp_path, monkeypatch):
  """Starts a stage that uses the model, in a process of its own."""

  def start(lead: bool = True, name: str = "sample") -> None:
    monkeypatch.setattr(model_record.hosts, "is_lead", lambda: lead)
    for cached in (model_record._identity, model_record._announce):
      cached.cache_clear()
    config = default()
    config.model.name = str(model)
    stage = program.stage(name, on="all")(lambda *unused: "all well")
    stage(config, epath.Path(tmp_path / "run"))

  return start


def _weights(model):
  file = model / "model.safetensors"
  tensors = load_file(file)
  tensors["model.norm.weight"][0] += 1
  save_file(tensors, file)


def _edit(name, change):
  def edit(model):
    path = model / name
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))

  return edit


def _template(model):
  path = model / "chat_template.jinja"
  path.write_text(path.read_text() + "\n")


_CHANGES = {
  "weights": _weights,
  "tokenizer": _edit(
    "tokenizer.json", lambda v: v["pre_tokenizer"].update(use_regex=False)
  ),
  "chat_template": _template,
  "end_tokens": _edit(
    "generation_config.json", lambda v: v.update(eos_token_id=[256, 7])
  ),
}


@pytest.mark.parametrize("what", _CHANGES)
def test_a_restart_with_another_model_is_refused(what, use, model, tmp_path):
  use()
  recorded = (tmp_path / "run" / "model.json").read_text()
  assert set(_CHANGES) < set(json.loads(recorded))
  _CHANGES[what](model)
  told = rf"begun with another model under the name .*/model \({what}: [^;]*\);"
  with pytest.raises(UserError, match=told):
    use(name="finetune")
  assert (tmp_path / "run" / "model.json").read_text() == recorded


@pytest.mark.parametrize("what", _CHANGES)
def test_another_host_with_another_model_is_refused(what, use, model, tmp_path):
  use()
  use(lead=False, name="finetune")
  _CHANGES[what](model)
  with pytest.raises(UserError, match=rf"process 0 has another .* \({what}: "):
    use(lead=False, name="evaluate base")


def test_until_something_is_sampled_the_model_may_change(use, model, tmp_path):
  use(name="select")  # leaves no sample
  path = tmp_path / "run" / "model.json"
  before = json.loads(path.read_text())
  _weights(model)
  use(name="retention base")
  after = json.loads(path.read_text())
  assert before.pop("weights") != after.pop("weights") and before == after


def test_the_same_files_may_lie_elsewhere(use, tmp_path, capsys):
  use()
  path = tmp_path / "run" / "model.json"
  record = json.loads(path.read_text())
  told = f"model: {tmp_path}/model weights {record['weights']}\n"
  assert capsys.readouterr().out.startswith(told)
  path.write_text(json.dumps(record | {"path": "/home/another/model"}))
  use(name="finetune")


def test_what_a_short_name_stands_for_is_said_once(capsys):
  model_record._announce.cache_clear()
  for _ in range(2):
    model_record._announce("smollm2", "/cache/SmolLM2.gguf", "0123456789abcdef")
  assert capsys.readouterr().out == (
    "model: smollm2 is /cache/SmolLM2.gguf, weights 0123456789abcdef\n"
  )

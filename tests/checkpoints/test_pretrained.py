"""Models by name: a folder, a run on it, a run on that run."""

from __future__ import annotations

import functools
import json
import pathlib
import shutil

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import GenerationConfig

from s2d_jax import LanguageModel
from s2d_jax.checkpoints import hf, pretrained, train_state
from s2d_jax.checkpoints.train_state import TrainState
from s2d_jax.errors import UserError
from s2d_jax.models.params import abstract_params
from s2d_jax.parallel.mesh import make_mesh
from s2d_jax.stages.chat_models import chat_setup
from tests import tiny_chat
from tests.lazy import in_memory
from tests.random_model import as_loaded


def _write_run(run: pathlib.Path, base: pathlib.Path, steps: dict[int, float]):
  """A run on `base` whose weights at step s are s + 1 times the tiny ones."""
  run.mkdir()
  settings = {"name": str(base), "chat": {"word": run.name}}
  settings["date"] = "2024-07-06"
  (run / "config.json").write_text(json.dumps({"model": settings}))
  with train_state.open_manager(run / "checkpoints", keep=2) as manager:
    for step, valid_loss in steps.items():
      params = jax.tree.map(jnp.asarray, _times(step + 1))
      state = TrainState(jnp.int32(step), params, {"moment": jnp.zeros(1)})
      train_state.save(manager, state, {}, valid_loss)


@functools.cache
def _times(factor: int):
  params = _times(1) if factor > 1 else tiny_chat.model().params
  return jax.tree.map(lambda x: np.float32(factor) * x, params)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
  """A folder, a run on it, and another on that run, which is returned."""
  folder = tmp_path_factory.mktemp("models")
  tiny = tiny_chat.model()
  # A template that reads the option that the runs have.
  tiny.tokenizer.chat_template += "{% if word %}{% endif %}"
  hf.write(folder / "model", tiny.config, tiny.params, tiny.tokenizer)
  _write_run(folder / "first", folder / "model", {1: 2.0})
  _write_run(folder / "second", folder / "first", {2: 1.0, 3: 2.0})
  return folder / "second"


def dtypes(params) -> list[str]:
  return [leaf.dtype.name for leaf in jax.tree.leaves(params)]


@pytest.mark.parametrize("step, factor", [(None, 3), (3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_gives_what_it_has_learnt(run, step, factor, dtype):
  name = run if step is None else run / "checkpoints" / str(step)
  model = pretrained.load(name, make_mesh(), dtype)
  expected = as_loaded(_times(factor), dtype)
  jax.tree.map(np.testing.assert_array_equal, model.params, expected)
  assert dtypes(model.params) == dtypes(expected)
  assert model.config == pretrained.read_config(name)
  assert model.tokenizer.eos_token == tiny_chat.END


@pytest.mark.parametrize("name", ["model", "second", "second/checkpoints/3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_leaves_in_files_are_those_that_are_loaded(run, name, dtype):
  lazy = pretrained.load_lazily(run.parent / name, dtype)
  loaded = pretrained.load(run.parent / name, make_mesh(), dtype)
  assert lazy[0] == loaded[0] and lazy[3] == loaded[3]
  found = in_memory(lazy.config, lazy.params)
  assert dtypes(found) == dtypes(loaded.params)
  jax.tree.map(np.testing.assert_array_equal, found, loaded.params)


def test_a_run_gives_its_prompts_too(run):
  """Its options and its date, whatever day it is."""
  for name in (run, run / "checkpoints" / "3"):
    lm = LanguageModel.load(name)
    lm.tokenizer.chat_template = "{{ word }} {{ strftime_now('%d %b %Y') }}"
    asked = lm.chat_template.prompt([{"role": "user", "content": "?"}])
    assert asked == "second 06 Jul 2024"
  assert pretrained.settings_of(run.parent / "model") == {}


@pytest.mark.parametrize("name, factor", [("model", 1), ("second", 3)])
def test_int8_of_a_folder_and_of_a_run(run, name, factor):
  """Kernels are off by half a step of their channel at most."""
  model = pretrained.load(run.parent / name, make_mesh(), "int8")
  abstract = nn.unbox(abstract_params(model.config, jnp.bfloat16, "int8"))
  assert jax.tree.structure(model.params) == jax.tree.structure(abstract)
  for path in ("q", "k", "v"):
    ours = model.params["layers"]["attention"][path]
    whole = _times(factor)["layers"]["attention"][path]["kernel"]
    assert ours["kernel"].dtype == jnp.int8
    assert np.abs(np.float32(ours["kernel"])).max() == 127
    step = np.asarray(ours["scale"])[:, None]
    rounded = whole.astype(jnp.bfloat16).astype(np.float32)
    off = np.abs(np.float32(ours["kernel"]) * step - rounded)
    assert (off <= 0.501 * step).all()


@pytest.mark.parametrize(
  "dtype, tolerance", [("float32", 1e-5), ("bfloat16", 0.03)]
)
def test_adapters_are_added_to_the_model_they_were_trained_beside(
  run, tmp_path, dtype, tolerance
):
  """The base model here is a run itself: three times the tiny one."""
  random = np.random.default_rng(0).normal
  shapes = {
    "q": ((2, 32, 3), (2, 3, 4, 16), "ldr,lrnh->ldnh"),
    "o": ((2, 4, 16, 3), (2, 3, 32), "lnhr,lrd->lnhd"),
  }
  adapters = {
    name: {
      "lora_down": random(size=down).astype(np.float32),
      "lora_up": random(size=up).astype(np.float32),
    }
    for name, (down, up, _) in shapes.items()
  }
  settings = {"rank": 3, "alpha": 6.0, "targets": ["q", "o"]}
  config = {"model": {"name": str(run)}, "finetune": {"lora": settings}}
  (tmp_path / "config.json").write_text(json.dumps(config))
  with train_state.open_manager(tmp_path / "checkpoints") as manager:
    tree = {"layers": {"attention": jax.tree.map(jnp.asarray, adapters)}}
    state = TrainState(jnp.int32(1), tree, {"moment": jnp.zeros(1)})
    train_state.save(manager, state, {}, 1.0)

  model = pretrained.load_lazily(tmp_path, dtype)
  lazy = in_memory(model.config, model.params)
  params = pretrained.load(tmp_path, make_mesh(), dtype).params
  jax.tree.map(np.testing.assert_array_equal, lazy, params)
  expected = jax.tree.map(np.array, _times(3))
  for name, (_, _, product) in shapes.items():
    change = np.einsum(product, *adapters[name].values())
    expected["layers"]["attention"][name]["kernel"] += 2.0 * change
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      np.float32(x), y, rtol=tolerance, atol=tolerance
    ),
    params,
    expected,
  )
  assert dtypes(params) == dtypes(as_loaded(expected, dtype))


def test_every_model_has_an_identity_of_its_own(run):
  """A run's is that of its best checkpoint, of the same tokenizer."""
  paths = [run.parent / "model", run.parent / "first", run]
  paths.append(run / "checkpoints" / "3")
  found = [pretrained.identity(path) for path in paths]
  assert len({one["weights"] for one in found}) == len(paths)
  best = pretrained.identity(run / "checkpoints" / "2")
  assert best == pretrained.identity(run) == found[2]
  assert {one["path"] for one in found} == {str(run.parent / "model")}
  assert len({one["tokenizer"] for one in found}) == 1


@pytest.mark.parametrize("rank", [0, 2])
def test_a_run_is_not_put_on_another_base_model(run, tmp_path, rank):
  """Its tokenizer counts, and weights beside which adapters were trained."""
  base, mine = tmp_path / "base", tmp_path / "run"
  shutil.copytree(run.parent / "model", base)
  shutil.copytree(run.parent / "first", mine)
  settings = json.loads((mine / "config.json").read_text())
  settings["model"]["name"] = str(base)
  lora = {"rank": rank, "alpha": 1.0, "targets": ["q"]}
  settings["finetune"] = {"lora": lora}
  (mine / "config.json").write_text(json.dumps(settings))
  record = pretrained.identity(base)
  message = "fine-tuned from another model than .*base is now"
  for part, counts in (("weights", rank > 0), ("tokenizer", True)):
    changed = json.dumps(record | {part: "0123"})
    (mine / "model.json").write_text(changed)
    if counts:
      with pytest.raises(UserError, match=rf"{message} .{part}: 0123 there"):
        pretrained.load_without_weights(mine)
    else:
      pretrained.load_without_weights(mine)
  (mine / "model.json").write_text(json.dumps(record | {"path": "/other"}))
  pretrained.load_without_weights(mine / "checkpoints" / "1")


def test_end_tokens_are_the_model_s_own(run, tmp_path):
  """Of its files, its tokenizer and its template; a run's, its base model's."""
  folder = run.parent / "model"
  path = folder / "generation_config.json"
  before = path.read_text()
  tokens = tiny_chat.tokenizer()
  try:
    path.write_text(
      json.dumps({"eos_token_id": [7, 8, 9999, -1], "temperature": 0.6})
    )
    for name in (folder, run, run / "checkpoints" / "3"):
      lm = LanguageModel.load(name)
      ends = lm.chat_template.end_tokens
      assert ends == (7, 8, tokens.eos_token_id), name
    lm.save_pretrained(tmp_path / "out")
    words = tokens.convert_tokens_to_ids(list(tiny_chat.WORDS))
    path.write_text(json.dumps({"eos_token_id": words}))
    [[reply]] = LanguageModel.load(run).generate(["x"], max_new_tokens=4)
    assert len(reply.tokens) == 1 and reply.finish_reason == "stop"
  finally:
    path.write_text(before)
  exported = GenerationConfig.from_pretrained(tmp_path / "out")
  assert exported.eos_token_id == list(ends)
  assert exported.temperature == 0.6
  again = LanguageModel.load(tmp_path / "out")
  assert again.chat_template.end_tokens == ends


@pytest.mark.parametrize("inside", ["checkpoints", "checkpoints/5/state"])
def test_a_model_s_folder_may_have_checkpoints(run, tmp_path, inside):
  """And may lie in a folder of that name, as a trainer's results do."""
  folder = tmp_path / "out" / "checkpoints" / "500"
  shutil.copytree(run.parent / "model", folder)
  (folder / inside).mkdir(parents=True)
  model = pretrained.load(folder, make_mesh())
  jax.tree.map(np.testing.assert_array_equal, model.params, _times(1))
  assert pretrained.settings_of(folder) == {}
  (folder / "examples").mkdir()
  assert chat_setup(str(folder)).distilled is None


def test_checkpoints_beside_the_config_of_a_model(run, tmp_path):
  shutil.copytree(run.parent / "model", tmp_path / "model")
  (tmp_path / "model" / "checkpoints" / "20").mkdir(parents=True)
  with pytest.raises(UserError, match="names their base model"):
    pretrained.load(tmp_path / "model" / "checkpoints" / "20", make_mesh())
  for text in ("{", "[]", '{"model": "x"}'):
    (tmp_path / "model" / "config.json").write_text(text)
    with pytest.raises(UserError, match="other JSON|their base model"):
      pretrained.load(tmp_path / "model", make_mesh())


def test_a_run_without_its_config(run, tmp_path):
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(UserError, match=r"no config\.json that names their base"):
    pretrained.load(tmp_path, make_mesh())

"""The examples of docs/library.md are run, its signatures are compared."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from unittest import mock

from etils import epath
import pytest

import s2d_jax
from s2d_jax.checkpoints import names
from s2d_jax.models import precision
from s2d_jax.stages import pipeline
from s2d_jax.stages.gated import Solution
from tests import tiny_chat
from tests.docs import documents

_DOCUMENT = documents.ROOT / "docs" / "library.md"
_SIGNATURE = re.compile(r"^\| `(s2d_jax(?:\.\w+)+)(\(.*?\))` \|", re.MULTILINE)
_DOCUMENTED = _SIGNATURE.findall(_DOCUMENT.read_text())


def _find(name: str):
  """The class, function or method of a dotted name."""
  parts = name.split(".")
  for length in range(len(parts), 0, -1):
    try:
      module = importlib.import_module(".".join(parts[:length]))
    except ModuleNotFoundError:
      continue
    return functools.reduce(getattr, parts[length:], module)
  raise AssertionError(name)


def test_signatures_are_found():
  assert len(_DOCUMENTED) > 40


@pytest.mark.parametrize("name, parameters", _DOCUMENTED)
def test_a_signature_is_that_of_the_code(name, parameters):
  found = _find(name)
  real = inspect.signature(found)
  kept = [
    parameter.replace(annotation=inspect.Parameter.empty)
    for parameter in real.parameters.values()
    if parameter.name not in ("self", "cls")
  ]
  real = inspect.Signature(kept)
  module = inspect.getmodule(found)
  scope = {"Thresholds": getattr(module, "Thresholds", None)}
  written = ast.parse(f"def f{parameters}: pass")
  exec(compile(written, str(_DOCUMENT), "exec"), scope)
  assert inspect.signature(scope["f"]) == real


@pytest.fixture
def notebook(tmp_path, monkeypatch):
  """A folder where the name of a small model means a tiny one."""
  folder = tiny_chat.write(
    tmp_path / "tiny", words=(" yes", " no"), window=1024
  )
  resolve = names.resolve
  tiny = "smollm2-135m-instruct"
  monkeypatch.setattr(
    names,
    "resolve",
    lambda name, weights=True: (
      epath.Path(folder) if name == tiny else resolve(name, weights)
    ),
  )
  # What is compiled once for one number type serves both ways of sampling.
  monkeypatch.setattr(precision, "choose", lambda *unused: "float32")
  (tmp_path / "configs").symlink_to(documents.ROOT / "configs")
  monkeypatch.chdir(tmp_path)
  return tmp_path


def test_the_examples_run_one_after_another(notebook, monkeypatch, capsys):
  runs = []  # of the pipeline, whose stages have tests of their own
  monkeypatch.setattr(pipeline, "run", lambda *given: runs.append(given))
  solver = mock.create_autospec(s2d_jax.Solver)  # has tests of its own, too
  solution = Solution("Lima.", "lima", False, -0.1, 0.9, 3, 40)
  solver.load.return_value.answer.return_value = [solution]
  monkeypatch.setattr(s2d_jax, "Solver", solver, raising=False)
  scope: dict = {}
  for block in documents.blocks(_DOCUMENT):
    if block.language == "python":
      exec(compile(block.text, str(_DOCUMENT), "exec"), scope)
  assert [len(reply.tokens) > 0 for reply in scope["replies"]] == [True] * 4
  assert set(scope["drawn"]) == {
    (question, sample)
    for question in ("Is 7 prime?", "Is 9 prime?")
    for sample in range(4)
  }
  said = capsys.readouterr().out
  assert "yes 0.25" in said and "lima False 3 0.9" in said
  asked = 3 * len(scope["task"].variants)
  assert len(scope["samples"]) == 3 * asked
  assert len(scope["accepted"]) + len(scope["rejected"]) == asked
  assert any(sample["answer"] for sample in scope["samples"])
  assert scope["summary"].valid_loss < scope["summary"].start_valid_loss
  assert (notebook / "distilled" / "model.safetensors").exists()
  [(config, workdir)] = runs
  assert (workdir / "config.json").exists()
  assert config.method == "s2a_few_shot"


def test_the_notebook_of_the_readme_fits_the_class(monkeypatch):
  model = mock.create_autospec(s2d_jax.LanguageModel)
  model.load.return_value = model(None)
  monkeypatch.setattr(s2d_jax, "LanguageModel", model)
  [block] = [
    block
    for block in documents.blocks(documents.ROOT / "README.md")
    if block.language == "python"
  ]
  exec(compile(block.text, "README.md", "exec"), {})
  called = [name for name, *_ in model.return_value.method_calls]
  assert called == ["generate", "logits", "save_pretrained"]

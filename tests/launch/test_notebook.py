"""The notebook runs, and it is kept with the outputs of a whole run."""

from __future__ import annotations

import base64
import copy
import html
import pathlib
import re
import runpy
import types

from etils import epath
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
import nbformat
import pytest

from s2d_jax.checkpoints import names
from s2d_jax.errors import UserError
from s2d_jax.stages import setup
from s2d_jax.stages.program import _flatten as flatten
from tests import tiny_chat

_ROOT = pathlib.Path(__file__).parents[2]
_PATH = _ROOT / "launch" / "colab_tpu.ipynb"
# Cells that may have nothing to show.
_SILENT = {"parameters", "install", "config", "helpers"}
_ROWS = tuple(
  f"{who}, {drawn}"
  for who in ("System 1", "System 1 few-shot", "System 2", "Distilled")
  for drawn in ("greedy", "one sample", "vote")
)
_PNG = b"\x89PNG\r\n\x1a\n"
# Where people and systems keep files.
_LEAK = re.compile(
  r"(?<![\w.:/])/(home|root|Users|tmp|var|usr|opt|mnt|work|content)\b"
)


@pytest.fixture(scope="module")
def notebook():
  return nbformat.read(_PATH, as_version=4)


def _code(notebook) -> dict[str, nbformat.NotebookNode]:
  return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def _shown(cell) -> str:
  """What a cell shows, but for pictures."""
  parts = []
  for output in cell.outputs:
    data = output.get("data", {})
    parts.append(
      output.get("text") or re.sub("<[^>]+>", "", data.get("text/html", ""))
    )
  return html.unescape("\n".join(parts))


def _plain_python(cell) -> str:
  return TransformerManager().transform_cell(cell.source)


def _check_outputs(notebook, questions: int) -> None:
  """All that a reader is told to see is there."""
  cells = _code(notebook)
  shown = {name: _shown(cell) for name, cell in cells.items()}
  # Libraries may warn where they are used for the first time.
  silent = {
    name
    for name, cell in cells.items()
    if all(output.get("name") == "stderr" for output in cell.outputs)
  }
  assert silent <= _SILENT
  assert "products in" in shown["device"]
  assert re.search(
    rf"{questions} questions: \d+% right when asked plainly, \d+% with a wrong"
    r" suggestion; \d+% of the suggestions repeated",
    shown["led"],
  )
  assert re.search(r"\d+% right .* \d+ tokens an answer", shown["attention"])
  assert "it thinks" in shown["attention"]
  assert "samples of s2a_few_shot over" in shown["sample"]
  assert re.search(r"^ *kept$", shown["curate"], re.MULTILINE)
  assert "dropped: " in shown["curate"]
  assert "validation loss" in shown["finetune"]
  for row in _ROWS:
    assert re.search(rf"{row}\s+\d+\.\d \[", shown["compare"])
  for picture in ("tokens", "margins"):
    [output] = cells[picture].outputs
    assert base64.b64decode(output.data["image/png"]).startswith(_PNG)
  assert re.search(r"before: *\S.*\s+after: *\S", shown["own"])
  assert re.search(r"report/index\.html  \d", shown["export"])


def test_it_is_kept_with_the_outputs_of_one_run(notebook):
  nbformat.validate(notebook)
  cells = _code(notebook)
  counts = [cell.execution_count for cell in cells.values()]
  assert counts == list(range(1, len(cells) + 1))
  kinds = {o.output_type for c in cells.values() for o in c.outputs}
  assert "error" not in kinds
  _check_outputs(notebook, questions=24)
  _check_it_knows_something(cells)


def _check_it_knows_something(cells) -> None:
  """Asked plainly the real model is right now and then, and not always."""
  right = re.search(r"(\d+)% right when asked plainly", _shown(cells["led"]))
  assert 0 < int(right[1]) < 100


def test_what_is_kept_is_small_and_names_no_machine(notebook):
  assert _PATH.stat().st_size < 1_000_000
  assert notebook.metadata.keys() == {
    "accelerator", "colab", "kernelspec", "language_info",
  }  # fmt: skip
  for cell in notebook.cells:
    assert cell.metadata.keys() <= {"tags"}  # no times, no traces of editors
    assert not _LEAK.search(cell.source)
  for cell in _code(notebook).values():
    assert not _LEAK.search(_shown(cell))


def test_its_code_compiles(notebook):
  for name, cell in _code(notebook).items():
    compile(_plain_python(cell), name, "exec")


def test_its_settings_are_those_of_the_quickstart(notebook):
  cells = _code(notebook)
  scope = {"epath": epath, "setup": setup}
  for name in ("parameters", "config"):
    exec(cells[name].source, scope)
  path = _ROOT / "configs" / "quickstart.py"
  quickstart = runpy.run_path(str(path))["get_config"]()
  quickstart.mesh.update(dcn=1, data=1, fsdp=1, tensor=1)
  assert flatten(scope["config"]) == flatten(quickstart)


def _installs(notebook, source: str) -> list[str]:
  """What the first cells ask pip for."""
  asked = []
  scope = {"source": source}

  def magic(name: str, line: str) -> None:
    asked.append(f"{name} {line.format(**scope)}")

  scope["get_ipython"] = lambda: types.SimpleNamespace(run_line_magic=magic)
  exec(_plain_python(_code(notebook)["install"]), scope)
  return asked


def test_it_installs_the_package_where_it_is_missing(
  notebook, monkeypatch, tmp_path
):
  monkeypatch.chdir(tmp_path)
  assert _installs(notebook, "git+https://example.org/s2d_jax") == []
  # A checkout that is not installed is a package without a file.
  checkout = types.SimpleNamespace(origin=None)
  for found in (None, checkout):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, f=found: f)
    with pytest.raises(SystemExit, match="set `source`"):
      _installs(notebook, "")
    [told] = _installs(notebook, "git+https://example.org/s2d_jax")
    assert re.fullmatch(
      r'pip install -q "s2d_jax\[\w*\] @ git\+https://example.org/s2d_jax"',
      told,
    )
  (tmp_path / "s2d_jax").mkdir()
  (tmp_path / "s2d_jax" / "setup.py").touch()
  [told] = _installs(notebook, "")
  assert told.endswith(f' @ {(tmp_path / "s2d_jax").as_uri()}"')


def _run(notebook, monkeypatch, folder: pathlib.Path, settings: str):
  """Executes it at the tiny size, with some more settings, in a folder."""
  monkeypatch.setenv("PYTHONPATH", str(_ROOT))
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  run = copy.deepcopy(notebook)
  cells = _code(run)
  for cell in cells.values():
    cell.outputs = []
  cells["parameters"].source += '\nsize, workdir = "tiny", "run"'
  cells["config"].source += "\n" + settings
  client = NotebookClient(
    run,
    timeout=None,
    kernel_name="python3",
    resources={"metadata": {"path": folder}},
  )
  client.execute()
  _check_outputs(run, questions=8)
  assert (folder / "run" / "report" / "index.html").exists()
  return run


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])  # 8: Colab's v2-8, Kaggle's v3-8
def test_it_runs(notebook, monkeypatch, tmp_path, devices):
  monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(devices))
  model = tiny_chat.write(tmp_path / "tiny", window=2048)
  settings = (
    f"config.model.name = {str(model)!r}\n"
    "config.sampling.n = 6\n"
    # Random weights repeat a word: once or twice it may be an answer.
    "with config.unlocked():\n"
    "  config.prompts.system1_shots = {'max_new_tokens': 2}\n"
    "config.curation.min_margin = config.curation.min_agreement = 0.0\n"
    "config.finetune.row_length = 512"
  )
  run = _run(notebook, monkeypatch, tmp_path, settings)
  shown = {name: _shown(cell) for name, cell in _code(run).items()}
  assert shown["device"].startswith(f"{devices} × ")
  idle = "finetune: on 1 of 8 devices, as the sizes of its mesh are set"
  assert (idle in shown["finetune"]) is (devices > 1)
  assert (tmp_path / "run" / "model" / "model.safetensors").exists()


@pytest.mark.slow
def test_it_runs_with_the_real_model(notebook, monkeypatch, tmp_path):
  try:
    names.smollm2_gguf()
  except UserError as error:
    pytest.skip(f"the real model cannot be had: {error}")
  run = _run(notebook, monkeypatch, tmp_path, "")
  weights = tmp_path / "run" / "model" / "model.safetensors"
  assert weights.stat().st_size == pytest.approx(2 * 134.5e6, rel=0.01)
  _check_it_knows_something(_code(run))

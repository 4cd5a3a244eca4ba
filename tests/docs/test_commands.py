"""Every command that a document shows would begin as it stands there.

A command of the package is given to its own program, in a folder that has the
files of the repository and those that the document has its reader write. The
program reads its flags, the file behind --config and all settings, and is
stopped there (`command_parser.py`); `.ci/run` and the tests of the stages run
what is behind. `documents.py` says how blocks of commands are marked: what
wants the Hub or a cloud is to say so.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from s2d_jax import cli
from s2d_jax.config import default
from s2d_jax.stages.program import _flatten as flatten
from tests.docs import documents
from tests.docs.documents import ROOT

_DOCUMENTS = documents.all_documents()
_KINDS = ((), ("hub",), ("cloud",))
_OTHER_SHELLS = {"bash", "shell", "console", "zsh", "shell-session"}
# They look at files, or are what a person types in between.
_AT_HAND = {
  "cat", "cd", "column", "cp", "curl", "echo", "export", "git", "grep", "head",
  "kill", "less", "ls", "mkdir", "mv", "open", "python", "rm", "sort", "source",
  "tail", "tensorboard", "wandb", "wc", "xdg-open", "xprof",
}  # fmt: skip
_OURS = {"s2d", "pip", "pytest", "ruff"}
_IN_A_CLOUD = {"gcloud", "gsutil", "kubectl", "sky", "docker", "xpk", "helm"}
_PROGRAMS = _AT_HAND | _OURS | _IN_A_CLOUD
_KNOWN = flatten(default())
_SECTIONS = "|".join({name.split(".")[0] for name in _KNOWN} - {"task", "seed"})
# `sampling.n`, `config.sampling.n = 8`, `--config.sampling.n=8`
_SETTING = re.compile(
  rf"(?:--)?(?:config\.)?((?:{_SECTIONS})(?:\.[a-z]\w*)+)(?: ?=.*)?"
)
_FILE = re.compile(r".*\.(gguf|safetensors|py|md|json)")


def _shell(document) -> list[documents.Block]:
  return [b for b in documents.blocks(document) if b.language == "sh"]


def _is_ours(command: list[str]) -> bool:
  if command[:2] == ["python", "-m"]:
    return command[2].partition(".")[0] in ("s2d_jax", "tests")
  return command[0] == "s2d"


def _is_installed(command: list[str]) -> bool:
  """Whether the extra is installed that a command needs, if it needs one."""
  is_harness = command[:3] == ["python", "-m", "s2d_jax.lm_eval"]
  return not is_harness or importlib.util.find_spec("lm_eval") is not None


def _shown(document) -> list[tuple[list[str], tuple[str, ...]]]:
  """The commands of a document, each with the words of its block.

  Those in the prose too, if no part of them stands for another.
  """
  found = [
    (command, block.words)
    for block in _shell(document)
    for command in documents.commands(block.text)
  ]
  for span in documents.spans(document):
    if span.startswith("s2d -") or (
      span.startswith("s2d ") and "--" in span and not _has_gap(span)
    ):
      found += [(words, ("cloud",)) for words in documents.commands(span)]
  return found


def _has_gap(span: str) -> bool:
  return re.search(r"…|\.\.\.|<|=[A-Z]", span) is not None


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
  """What the programs say: document → a list of (command, words, result)."""
  asked = []
  for document in _DOCUMENTS:
    folder = _folder(tmp_path_factory.mktemp(document.stem), document)
    asked += [
      (document, command, words, str(folder))
      for command, words in _shown(document)
      if _is_ours(command) and _is_installed(command)
    ]
  given = [
    {"folder": folder, "command": command} for _, command, _, folder in asked
  ]
  done = subprocess.run(
    [sys.executable, "-m", "tests.docs.command_parser"],
    input=json.dumps(given),
    capture_output=True,
    text=True,
    env=os.environ
    | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"},
  )
  assert done.returncode == 0, done.stderr
  results = json.loads(done.stdout)
  return [
    (document, command, words, result)
    for (document, command, words, _), result in zip(
      asked, results, strict=True
    )
  ]


def _folder(folder: pathlib.Path, document) -> pathlib.Path:
  """The repository, and the files that the document has its reader write."""
  for path in ROOT.iterdir():
    if not path.name.startswith(".") and path.name != "runs":
      (folder / path.name).symlink_to(path)
  for block in documents.blocks(document):
    for word in block.words:
      if re.fullmatch(r"\w+\.\w+", word):
        (folder / word).write_text(block.text)
  return folder


@pytest.mark.parametrize("document", _DOCUMENTS, ids=documents.name)
def test_commands_stand_in_blocks_that_say_so(document):
  for block in documents.blocks(document):
    assert block.language not in _OTHER_SHELLS, f"```{block.language}: use sh"
    if block.language == "sh":
      assert block.words in _KINDS, f"```sh {' '.join(block.words)}"
      assert "…" not in block.text, f"to be copied whole: {block.text}"
    elif block.language in ("", "text"):
      for line in block.text.splitlines():
        first = line.removeprefix("$ ").split(" ")[0]
        # The usage that s2d prints is no command.
        is_command = first in _PROGRAMS and re.search(r" -|/", line)
        assert not is_command, f"a command outside ```sh: {line}"
  for line in documents.prose(document).splitlines():
    assert not re.match(r" {4,}(\$ )?(s2d|pip|pytest|python) ", line), line


@pytest.mark.parametrize("document", _DOCUMENTS, ids=documents.name)
def test_commands_of_the_package_begin(document, answers):
  for _, command, words, result in (a for a in answers if a[0] == document):
    line = " ".join(command)
    assert result["error"] is None, f"{line}: {result['error']}"
    if not words:
      assert not result["needs"], f"{line} needs the Hub: ```sh hub"
      assert not re.search(r"gs://|--multihost", line), f"```sh cloud: {line}"


@pytest.mark.parametrize("document", _DOCUMENTS, ids=documents.name)
def test_other_commands_are_there(document):
  for command, words in _shown(document):
    if _is_ours(command) or words == ("cloud",):
      continue
    program, *rest = command
    line = " ".join(command)
    if program == "pip":
      _check_pip(rest)
    elif program == "pytest" or command[:3] == ["python", "-m", "pytest"]:
      _check_pytest(rest if program == "pytest" else rest[2:])
    elif program == "python" and rest[0].endswith(".py"):
      assert (ROOT / rest[0]).exists(), line
    elif "/" in program:
      assert os.access(ROOT / program, os.X_OK), f"{program} is no program"
    else:
      assert program in _AT_HAND | {"ruff"}, f"```sh cloud, or spell it: {line}"


def _check_pip(arguments: list[str]) -> None:
  for argument in arguments:
    if extras := re.fullmatch(r"\.\[([\w,]+)\]", argument):
      assert set(extras[1].split(",")) <= _extras(), argument


def _check_pytest(arguments: list[str]) -> None:
  for argument in arguments:
    path, _, test = argument.partition("::")
    if "/" in path or path.endswith(".py"):
      assert (ROOT / path).exists(), argument
      assert f"def {test}" in (ROOT / path).read_text() if test else True


@functools.cache
def _extras() -> set[str]:
  tree = ast.parse((ROOT / "setup.py").read_text())
  [extras] = [
    word.value
    for word in ast.walk(tree)
    if isinstance(word, ast.keyword) and word.arg == "extras_require"
  ]
  return set(ast.literal_eval(extras))


@pytest.mark.parametrize("document", _DOCUMENTS, ids=documents.name)
def test_settings_that_are_named_exist(document):
  groups = {name.rpartition(".")[0] for name in _KNOWN}
  # Empty, unless a file sets some.
  groups |= {"model.chat", "retention.tasks"}
  for span in documents.spans(document):
    found = _SETTING.fullmatch(span)
    if found and not _FILE.fullmatch(span):
      assert found[1] in _KNOWN.keys() | groups, span


def test_every_stage_is_in_a_document():
  shown = {
    command[1]
    for document in _DOCUMENTS
    for command, _ in _shown(document)
    if command[0] == "s2d" and len(command) > 1
  }
  assert set(cli._STAGES) <= shown


def test_the_two_commands_of_the_readme_are_run_whole():
  """By `.ci/run`, in an empty environment; the second with few countries."""
  first, second = _shell(ROOT / "README.md")[:2]
  install, pipeline = documents.commands(first.text)
  steps = list(documents.commands((ROOT / ".ci" / "run").read_text()))
  assert list(documents.commands(second.text)) == [
    ["pip", "install", "-e", ".[test]"],
    ["pytest"],
  ]
  for step in documents.commands(second.text):
    assert step in steps
  # The extra adds pytest; what is installed is the same.
  assert install == ["pip", "install", "-e", "."]
  begins = _without_workdir(pipeline)
  assert any(step[: len(begins)] == begins for step in steps)


def test_the_short_quickstart_is_run():
  """By `.ci/run`, with the settings of its page."""
  steps = documents.commands((ROOT / ".ci" / "run").read_text())
  blocks = _shell(ROOT / "docs" / "quickstart.md")
  told = [c for block in blocks for c in documents.commands(block.text)]
  [short] = [command for command in told if "--workdir=runs/small" in command]
  assert _without_workdir(short) in map(_without_workdir, steps)


def _without_workdir(command: list[str]) -> list[str]:
  return [word for word in command if not word.startswith("--workdir=")]

"""What is imported is asked for in setup.py, and what is asked for is imported.

A package that merely comes along with another one may be gone with the other's
next version.
"""

from __future__ import annotations

import ast
import collections
from collections.abc import Iterable, Iterator
from importlib import metadata
import pathlib
import re
import sys

from IPython.core.inputtransformer2 import TransformerManager
import nbformat

_ROOT = pathlib.Path(__file__).parents[1]
_OURS = {"configs", "s2d_jax", "tests"}
_DISTRIBUTIONS = metadata.packages_distributions()
# Packages that few want → the extra that brings them.
_OPTIONAL = {
  "aiohttp": "tpu",
  "gcsfs": "tpu",
  "google-auth": "tpu",
  "lm-eval": "lm-eval",
  "wandb": "wandb",
}
_ELSEWHERE = (
  # Each is run in an environment of its own, with what it competes with.
  "tests/benchmarks/contenders",
  # The programs there are run by hand, beside PyTorch.
  "tests/goldens",
)


def _setup() -> dict[str, ast.expr]:
  """The arguments of `setup()`."""
  tree = ast.parse((_ROOT / "setup.py").read_text())
  [call] = [
    node
    for node in ast.walk(tree)
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
  ]
  return {keyword.arg: keyword.value for keyword in call.keywords}


def _names(requirements: Iterable[str]) -> set[str]:
  """Of the packages, without versions and extras."""
  return {_normal(re.match(r"[\w.-]+", line)[0]) for line in requirements}


def _normal(name: str) -> str:
  return re.sub(r"[-_.]+", "-", name).lower()


_REQUIRED = _names(ast.literal_eval(_setup()["install_requires"]))
_EXTRAS = {
  extra: _names(lines)
  for extra, lines in ast.literal_eval(_setup()["extras_require"]).items()
}


def _sources(pattern: str) -> Iterator[tuple[str, str]]:
  """Name and Python text of each file, notebooks as well."""
  for path in sorted(_ROOT.glob(pattern)):
    name = path.relative_to(_ROOT).as_posix()
    if name.startswith(_ELSEWHERE):
      continue
    if path.suffix == ".ipynb":
      cells = nbformat.read(path, as_version=4).cells
      code = [cell.source for cell in cells if cell.cell_type == "code"]
      yield name, TransformerManager().transform_cell("\n".join(code))
    else:
      yield name, path.read_text()


def _modules(text: str) -> set[str]:
  """All that a text imports, within functions too, by the first name."""
  found = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      found |= {alias.name.partition(".")[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and not node.level:
      found.add(node.module.partition(".")[0])
  return found


def _imported(*patterns: str) -> dict[str, list[str]]:
  """Module → the files that import it."""
  found = collections.defaultdict(list)
  for pattern in patterns:
    for name, text in _sources(pattern):
      for module in _modules(text) - sys.stdlib_module_names - _OURS:
        found[module].append(name)
  return found


def _packages(module: str) -> set[str]:
  """Those that bring a module; several share a namespace."""
  # What is not installed is of an extra, and called like its module.
  return set(map(_normal, _DISTRIBUTIONS.get(module, [module])))


_PROGRAMS = _imported("s2d_jax/**/*.py", "configs/**/*.py", "launch/**/*.py")
# The notebook is run by a test; who opens it has what notebooks are shown by.
_TESTS = _imported("tests/**/*.py", "launch/**/*.ipynb")


def _lacking(
  imported: dict[str, list[str]], packages: set[str]
) -> dict[str, list[str]]:
  """What is imported and in none of the packages."""
  return {
    module: files
    for module, files in imported.items()
    if not _packages(module) & packages
  }


def test_imports_are_found():
  assert "s2d_jax/models/attention.py" in _PROGRAMS["jax"]
  assert "s2d_jax/tracking.py" in _PROGRAMS["wandb"]  # within a function
  assert "launch/gke/manifest.py" in _PROGRAMS["yaml"]
  assert "launch/colab_tpu.ipynb" in _TESTS["IPython"]


def test_what_the_programs_import_is_required():
  assert not _lacking(_PROGRAMS, _REQUIRED | _OPTIONAL.keys())


def test_what_few_want_is_in_its_extra():
  for package, extra in _OPTIONAL.items():
    assert package in _EXTRAS[extra]
    assert any(package in _packages(module) for module in _PROGRAMS)


def test_what_the_tests_import_is_required_or_in_their_extra():
  assert not _lacking(_TESTS, _REQUIRED | _EXTRAS["test"] | _OPTIONAL.keys())


def test_what_is_required_is_imported():
  assert not _REQUIRED - set().union(*map(_packages, _PROGRAMS))


def test_no_extra_repeats_what_is_required():
  for packages in _EXTRAS.values():
    assert not packages & _REQUIRED - {"etils", "jax"}  # these have extras

"""Compares finished runs: one page, and a table on the terminal.

s2d report --compare runs/a runs/b … [--out=compare/index.html]
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags
from etils import epath

from s2d_jax.errors import UserError
from s2d_jax.reporting import comparison, terminal
from s2d_jax.stages import program

_COMPARE = flags.DEFINE_list(
  "compare",
  None,
  "Workdirs of finished runs, local or gs://: --compare runs/a runs/b, or"
  " --compare=runs/a,runs/b.",
)
_OUT = flags.DEFINE_string(
  "out", "compare/index.html", "The page, or the folder to put it in."
)


def compare(workdirs: Sequence[str], out: str) -> None:
  """Writes the page and prints the table."""
  runs = comparison.load(workdirs)
  path = epath.Path(out)
  if path.suffix != ".html":
    path = path / "index.html"
  try:
    comparison.write(runs, path)
  except OSError as error:
    raise UserError(
      f"--out={out} cannot be written ({error.strerror or error}); choose"
      " another"
    ) from None
  terminal.print_comparison(runs)
  print(f"wrote {path}")


def join_workdirs(argv: Sequence[str]) -> list[str]:
  """The arguments, with all that follow --compare joined into its one value.

  So that the shell may expand them: --compare runs/*
  """
  found: list[str] = []
  is_open = False
  for argument in argv:
    if argument.startswith("-"):
      is_open = argument.lstrip("-").partition("=")[0] == "compare"
      found.append(argument)
    elif is_open:
      found[-1] += ("," if "=" in found[-1] else "=") + argument
    else:
      found.append(argument)
  return found


def _start(argv: Sequence[str]) -> None:
  del argv
  compare(_COMPARE.value or [], _OUT.value)


def main() -> None:
  program.run_program(_start, __doc__, ("compare", "out"))

"""The project's documents, as the tests of them read them.

A fenced block says in its info string what it is: first the language, then
words. A block of commands is one of

    sh            runs on a laptop, with nothing but the package and an index
                  of packages
    sh hub        wants the Hugging Face Hub, or a data set
    sh cloud      wants a cloud project, a TPU or a GPU

and a block that is a file which the reader is to write has the name of the
file behind its language: ```python my_config.py.
"""

from __future__ import annotations

from collections.abc import Iterator
import pathlib
import re
import shlex
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
_FENCE = re.compile(
  r"^( *)```([^\n`]*)\n(.*?)^\1```\s*$", re.DOTALL | re.MULTILINE
)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
# A shell gives these a value; for a flag's parser any number will do.
_VARIABLE = re.compile(r"\$(?:\{\w+\}|\w+)")
_KEYWORDS = {"do", "then", "else", "time", "!", "{", "("}
_NO_COMMANDS = {"for", "done", "fi", "if", "while", "}", ")"}


class Block(NamedTuple):
  """A fenced block: its language, the words behind it, its text."""

  language: str
  words: tuple[str, ...]
  text: str


def all_documents() -> list[pathlib.Path]:
  """Those for users, and those for who works on the project."""
  patterns = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "launch/**/README.md",
    "tests/benchmarks/README.md",
  )
  return sorted(path for p in patterns for path in ROOT.glob(p))


def name(document: pathlib.Path) -> str:
  return str(document.relative_to(ROOT))


def blocks(document: pathlib.Path) -> list[Block]:
  return list(_blocks(document.read_text()))


def _blocks(text: str) -> Iterator[Block]:
  for indent, info, body in _FENCE.findall(text):
    language, *words = info.split() or [""]
    lines = (line.removeprefix(indent) for line in body.splitlines())
    yield Block(language, tuple(words), "\n".join(lines) + "\n")


def prose(document: pathlib.Path) -> str:
  """The text without its fenced blocks."""
  return _FENCE.sub("", document.read_text())


def spans(document: pathlib.Path) -> list[str]:
  """What stands in backticks in the prose, on one line."""
  return [" ".join(s.split()) for s in _SPAN.findall(prose(document))]


def commands(script: str) -> Iterator[list[str]]:
  """The simple commands of a shell script, as lists of words."""
  script = _VARIABLE.sub("1", script.replace("\\\n", " "))
  for line in script.splitlines():
    words = shlex.shlex(line, posix=True, punctuation_chars="&|;<>()")
    words.whitespace_split = True
    command: list[str] = []
    for word in [*words, ";"]:
      if not set(word) <= set("&|;"):
        command.append(word)
        continue
      if command := _without_shell(command):
        yield command
      command = []


def _without_shell(command: list[str]) -> list[str]:
  """Without keywords, settings of the environment and redirections."""
  while command and (command[0] in _KEYWORDS or _is_assignment(command[0])):
    command = command[1:]
  if command and command[0] in _NO_COMMANDS:
    return []
  for index, word in enumerate(command):
    if word and set(word) <= set("<>"):
      return command[:index]
  return command


def _is_assignment(word: str) -> bool:
  return re.match(r"[A-Za-z_]\w*=", word) is not None

"""Every message that a user may read has an entry in docs/troubleshooting.md.

The first column of its tables has the messages, or enough of each to know it
by, with … where the message fills something in.
"""

from __future__ import annotations

import ast
import functools
import re

import pytest

from tests.docs.documents import ROOT

_DOCUMENT = ROOT / "docs" / "troubleshooting.md"
_GAP = "…"
_LETTERS = 12  # at the least, for a message to be known by
_ALIKE = 4  # messages at the most that are known by the same words


def _messages() -> dict[str, str]:
  """Where a message is raised → the message, with gaps."""
  found = {}
  for path in sorted((ROOT / "s2d_jax").rglob("*.py")):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Call) and _is_error(node.func) and node.args:
        place = f"{path.relative_to(ROOT)}:{node.lineno}"
        found[place] = _text(node.args[0])
  return found


def _is_error(function: ast.expr) -> bool:
  name = getattr(function, "id", getattr(function, "attr", None))
  return name in ("UserError", "KeptTooLittle", "Unanswered", "Preempted")


def _text(node: ast.expr) -> str:
  """What a string says wherever it is the same."""
  if isinstance(node, ast.Constant):
    return str(node.value)
  if isinstance(node, ast.JoinedStr):
    return "".join(map(_text, node.values))
  if isinstance(node, ast.BinOp):
    return _text(node.left) + _text(node.right)
  return _GAP


@functools.cache
def _entries() -> tuple[str, ...]:
  """The messages of the document's tables."""
  found = []
  for line in _DOCUMENT.read_text().splitlines():
    if line.startswith("| `"):
      told, *meaning = line.strip("|").split(" | ")
      assert meaning and meaning[0].strip(), f"nothing is said about {told}"
      found += re.findall(r"`([^`]+)`", told)
  return tuple(found)


_MESSAGES = _messages()


def test_messages_are_found():
  assert len(_MESSAGES) > 140
  [there] = [m for m in _MESSAGES.values() if "there is no such file" in m]
  assert there == "--config=…: there is no such file"


@pytest.mark.parametrize("place", _MESSAGES)
def test_every_message_has_an_entry(place):
  message = _MESSAGES[place]
  # One without words passes on what another says.
  has_words = re.search(r"[a-z]{3}", message)
  assert not has_words or any(entry in message for entry in _entries()), message


def test_every_entry_is_a_message():
  for entry in _entries():
    alike = sorted((m for m in _MESSAGES.values() if entry in m), key=len)
    assert 1 <= len(alike) <= _ALIKE, (entry, alike)
    is_whole = alike[0] == entry
    assert is_whole or len(re.findall("[a-z]", entry)) >= _LETTERS, entry


def test_no_entry_stands_twice():
  assert len(_entries()) == len(set(_entries()))

"""Links between the documents lead somewhere, to the very section."""

from __future__ import annotations

import collections
import re

import pytest

from tests.docs import documents

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.*?) *$", re.MULTILINE)


def _links(document) -> list[str]:
  found = _LINK.findall(documents.prose(document))
  return [link for link in found if not re.match(r"[a-z]+:", link)]


def _anchors(document) -> set[str]:
  """As GitHub names the sections of a page."""
  seen: collections.Counter[str] = collections.Counter()
  anchors = set()
  for heading in _HEADING.findall(documents.prose(document)):
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
    anchors.add(name + (f"-{seen[name]}" if seen[name] else ""))
    seen[name] += 1
  return anchors


@pytest.mark.parametrize(
  "document", documents.all_documents(), ids=documents.name
)
def test_links_lead_somewhere(document):
  for link in _links(document):
    path, _, anchor = link.partition("#")
    target = (document.parent / path) if path else document
    assert target.exists(), f"{link}: there is no such file"
    if anchor:
      assert anchor in _anchors(target), f"{link}: there is no such section"


def test_links_are_found():
  assert "docs/architecture.md" in _links(documents.ROOT / "README.md")
  troubleshooting = documents.ROOT / "docs" / "troubleshooting.md"
  assert "without-a-sentence" in _anchors(troubleshooting)


def test_every_document_can_be_reached_from_the_readme():
  start = documents.ROOT / "README.md"
  reached, left = set(), [start]
  while left:
    document = left.pop()
    reached.add(document)
    for link in _links(document):
      target = (document.parent / link.partition("#")[0]).resolve()
      if target.suffix == ".md" and target.exists() and target not in reached:
        left.append(target)
  assert set((documents.ROOT / "docs").glob("*.md")) <= reached

from __future__ import annotations

from importlib import resources
import re

import pytest

from s2d_jax.answers.words import normalise
from s2d_jax.tasks.instructions import Instructions
from tests.docs.documents import ROOT

_TEXT = resources.files("s2d_jax.evaluation") / "everyday_questions.txt"


@pytest.fixture(scope="module")
def questions() -> list[str]:
  return _TEXT.read_text(encoding="utf-8").splitlines()


def test_each_line_is_another_question(questions):
  assert len(questions) == 240 == len(set(map(normalise, questions)))
  for question in questions:
    assert question == question.strip()
    assert 4 <= len(question.split()) <= 40, question


def test_none_is_of_a_task_of_the_package(questions):
  asked = re.compile(
    r"capital|continent|\bcoin|\bletters?\b|heads|better answer|currency",
    re.IGNORECASE,
  )
  assert [one for one in questions if asked.search(one)] == []
  requests = [e.inputs["text"] for e in Instructions().examples()["test"]]
  for one in questions:
    assert not any(text.startswith(one) for text in requests), one


def test_subjects_are_not_in_blocks(questions):
  about_code = [
    place
    for place, one in enumerate(questions)
    if re.search(r"Python|SQL|CSS|bash|git\b|JavaScript", one)
  ]
  assert len(about_code) >= 8
  assert max(about_code) - min(about_code) > 120


def test_it_is_packaged():
  assert _TEXT.suffix == ".txt"
  packaged = '"s2d_jax.evaluation": ["*.txt"]'
  assert packaged in (ROOT / "setup.py").read_text()

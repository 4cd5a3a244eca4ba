from __future__ import annotations

import collections

import pytest

from s2d_jax.evaluation import masked_words
from s2d_jax.evaluation.masked_words import Masked


def test_masks_the_rarest_word_once():
  questions = [
    "What is the capital of Perú?",
    "What is the capital of Chile?",
    "What is the capital of Chile?",  # once
    "Is it?",  # no word is long enough
    "Who adds 7 to 7 and 12?",
  ]
  assert masked_words.mask(questions) == [
    Masked("What is the capital of ____?", "Perú"),
    Masked("What is the capital of ____?", "Chile"),
    Masked("Who ____ 7 to 7 and 12?", "adds"),
  ]
  assert masked_words.mask(questions)[0].prompt.endswith("(____) is")


def test_every_word_is_also_looked_for_behind_another_question():
  own = [Masked(f"{number} ____?", f"word{number}") for number in range(20)]
  others = masked_words.elsewhere(own)
  assert [one.word for one in others] == [one.word for one in own]
  assert all(a.question != b.question for a, b in zip(own, others, strict=True))
  counts = collections.Counter(one.question for one in others)
  assert counts == collections.Counter(one.question for one in own)


def test_guesses_by_hand():
  own = [True] * 6 + [False] * 4
  others = [True] + [False] * 9
  found = masked_words.guesses(own, others)
  assert (found.questions, found.guessed, found.elsewhere) == (10, 6, 1)
  assert found.p_value == pytest.approx(2 / 2**5)  # five of five, two-sided

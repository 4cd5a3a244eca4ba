"""Which answers are read, and scored, but have no vote."""

from __future__ import annotations

import pytest

from s2d_jax.answers.answer import has_vote
from s2d_jax.answers.choice import Choice
from s2d_jax.answers.letters import Letters
from s2d_jax.answers.number import Number
from s2d_jax.answers.text import Text
from s2d_jax.answers.verdict import Verdict
from s2d_jax.tasks.coin_flip import CoinFlip

_COLOURS = Choice(("red", "white", "yellow"))
_COIN = "A coin is heads up. Ada flips the coin. Is the coin still heads up?"


@pytest.mark.parametrize(
  "read, reply, question, text",
  [
    (_COLOURS, "white", "", "white"),
    (_COLOURS, "The cross is white, not red.", "", "white"),
    (Number(), "She has 18 eggs left.", "How many eggs has she left?", "18"),
    (Number(), "16 - 3 = 13, so she has 13 eggs left.",
     "She has 16 eggs and eats 3. How many are left?", "13"),
    (Text(), "Bora Bora", "Which island is it?", "bora bora"),
    (Text(), "Oslo Oslo Oslo Oslo", "What is the capital of Norway?", "oslo"),
    (Text(), "The capital of Norway is Oslo.",
     "What is the capital of Norway?", "oslo"),
    (Letters(), 'Together the last letters spell "ny".', "", "ny"),
    (Verdict(), "[[A]] It is a tie in style, but A is right.", "", "A"),
    (CoinFlip().read, "It is flipped once, so it is tails up.", _COIN, "no"),
  ],
)  # fmt: skip
def test_an_answer_beside_no_other_votes(read, reply, question, text):
  found = read(reply, question)
  assert (found.text, found.is_sure) == (text, True)


# Each was a wrong vote of a reply that nobody had seen, or is like one.
@pytest.mark.parametrize(
  "read, reply, question",
  [
    (_COLOURS, "It is a red field with a white cross. Sweden's cross, by"
     " contrast, is yellow.", "Which colour is the cross of Denmark?"),
    (Number(), "Dan ate 3 slices, so there are 8 - 3 = 5 slices remaining, i.e."
     " 5/8 of the pizza.", "Of 8 slices Dan eats 3. How many slices remain?"),
    (Text(), "Louis Armstrong was an American Jazz Musician. He died in 1971.",
     "What instrument did Louis Armstrong play?"),
    (Text(), "世界上最小的国家是梵蒂冈(Vatican City),面积约为0.44平方公里。",
     "What is the smallest country in the world?"),
    (Letters(), 'The last letters spell "xio". \n\nEdit: checking again:'
     ' Beatrix → x, Kowalski → i, Munro → o. Yes, "xio" is right.', ""),
    (Verdict(), "I'd call this one a tie. Assistant A is stronger on detail and"
     " Assistant B on readability, and these count about the same.", ""),
    (CoinFlip().read, "It was heads, and now it is tails up, no longer heads.",
     _COIN),
  ],
)  # fmt: skip
def test_what_may_be_another_answer_has_no_vote(read, reply, question):
  assert read(reply, question).tier == "unsure"


def test_tiers_that_vote():
  tiers = ("strict", "loose", "unsure", None)
  assert [has_vote(tier) for tier in tiers] == [True, True, False, True]
  assert [has_vote(tier, loose=False) for tier in tiers] == [
    True, False, False, False,
  ]  # fmt: skip

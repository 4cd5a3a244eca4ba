from __future__ import annotations

import pytest

from s2d_jax.evaluation.metrics import Interval
from s2d_jax.evaluation.results import Change, Headline
from s2d_jax.reporting.answer import sentence


def change(before, after, low, high):
  return Change(before, after, Interval(after - before, low, high))


SAME = change(0.5, 0.5, -0.1, 0.1)


def said(biased, plain=SAME, single=24.0, vote=120.0):
  found = Headline(plain, biased, 0.8, 9.0, single, vote)
  return sentence(found, "suggests_wrong").replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
  "biased, start",
  [
    (change(0.13, 0.44, 0.2, 0.4), "Distillation worked: "),
    (change(0.13, 0.20, -0.01, 0.2), "Distillation made no clear diff"),
    (change(0.44, 0.13, -0.4, -0.2), "Distillation did harm: "),
    # An interval that only touches zero is not clear.
    (change(0.13, 0.20, 0.0, 0.2), "Distillation made no clear diff"),
  ],
)
def test_the_interval_decides(biased, start):
  assert said(biased).startswith(start)


def test_the_whole_sentence():
  assert said(change(0.13, 0.44, 0.2, 0.4)) == (
    "Distillation worked: on “suggests wrong” inputs the model gets 44 %"
    " right without thinking, up from 13 %, with 9 tokens an answer instead"
    " of the 120 of a System 2 vote."
  )


def test_a_price_paid_on_plain_inputs_is_named():
  biased = change(0.13, 0.44, 0.2, 0.4)
  text = said(biased, plain=change(0.5, 0.3, -0.3, -0.1))
  assert text.endswith("; but on plain inputs it fell from 50 % to 30 %.")
  assert "but" not in said(biased, plain=change(0.5, 0.45, -0.1, 0.02))


def test_the_cost_is_that_of_what_was_evaluated():
  biased = change(0.13, 0.44, 0.2, 0.4)
  assert "the 24 of a System 2 pass" in said(biased, vote=None)
  assert "System 2" not in said(biased, single=None, vote=None)


def test_nothing_to_compare():
  assert "nothing to compare yet" in sentence(None, "suggests_wrong")

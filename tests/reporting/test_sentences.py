from __future__ import annotations

import dataclasses

import pytest

from s2d_jax.evaluation.metrics import Interval
from s2d_jax.evaluation.paired import Comparison
from s2d_jax.evaluation.results import Change, Headline
from s2d_jax.evaluation.verdict import Verdict
from s2d_jax.reporting import sentences

NOTHING = Verdict(
  split="suggests_wrong",
  is_system2=True,
  margin_samples=0,
  **dict.fromkeys(
    (
      "vote", "single", "votes", "margins", "on_test", "distilled",
      "distilled_vote", "distilled_single", "agreement",
    )
  ),
)  # fmt: skip


def compared(
  first, second, low, high, n=100, changed=30, p=None, units=None, needed=None
):
  gain = Interval(first - second, low, high)
  if p is None:
    p = 0.0004 if low > 0 or high < 0 else 0.21
  return Comparison(
    first, second, gain, n, units or n, False, changed, p, needed
  )


BETTER = compared(0.60, 0.30, 0.2, 0.4)
WORSE = compared(0.30, 0.60, -0.4, -0.2)
LEVEL = compared(0.50, 0.50, -0.05, 0.05)
UNCLEAR = compared(0.50, 0.45, -0.1, 0.2)
FEW = compared(0.75, 0.25, 0.2, 0.8, n=8, changed=4)
SAME = Change(0.5, 0.5, Interval(0.0, -0.1, 0.1))


def plainly(text):
  return text and text.replace("\N{NO-BREAK SPACE}", " ")


def said(distilled=BETTER, plain=SAME, single=24.0, vote=120.0, **found):
  change = Change(distilled.second, distilled.first, distilled.gain)
  headline = Headline(plain, change, 0.8, 9.0, single, vote)
  verdict = dataclasses.replace(NOTHING, distilled=distilled, **found)
  return plainly(sentences.outcome(headline, verdict))


@pytest.mark.parametrize(
  "distilled, start",
  [
    (BETTER, "Distillation raised accuracy on prompts that suggest a wrong"),
    (UNCLEAR, "Distillation made no clear difference: "),
    (LEVEL, "Distillation made no clear difference: "),
    (WORSE, "Distillation lowered accuracy on prompts that suggest a wrong"),
    # An interval that only touches zero is not clear.
    (compared(0.2, 0.1, 0.0, 0.2), "Distillation made no clear difference: "),
    (FEW, "Distillation made no clear difference (8 inputs are too few to"),
  ],
)
def test_the_evidence_decides(distilled, start):
  assert said(distilled).startswith(start)


def test_the_whole_sentence():
  assert said() == (
    "Distillation raised accuracy on prompts that suggest a wrong answer from"
    " 30 % to 60 %, at 92 % fewer tokens than System 2’s vote (9 an answer"
    " instead of 120)."
  )


def test_the_words_are_those_of_the_task():
  change = Change(0.3, 0.6, BETTER.gain)
  headline = Headline(SAME, change, None, 4.0, None, 2064.0)
  verdict = dataclasses.replace(NOTHING, split="original", distilled=BETTER)
  assert plainly(sentences.outcome(headline, verdict, task="judge")) == (
    "Distillation raised agreement with people on pairs of answers from 30 % to"
    " 60 %, at over 99 % fewer tokens than System 2’s vote (4 an answer instead"
    " of 2064)."
  )
  verdict = dataclasses.replace(verdict, split="a_form")
  assert "accuracy on “a form” prompts" in sentences.outcome(headline, verdict)


def test_a_price_paid_on_plain_inputs_is_named():
  fell = compared(0.3, 0.5, -0.3, -0.1)
  text = said(splits={"plain": fell})
  assert text.endswith(
    "; but on plain prompts it fell from 50 % to 30 % (−20 points, 95 %"
    " interval −30 to −10, p < 0.001)."
  )
  assert "but" not in said()


def test_a_fall_that_is_not_clear_is_said_to_be_that():
  fell = compared(0.65, 0.79, -0.31, 0.02, n=48, p=0.167)
  slight = compared(0.48, 0.5, -0.1, 0.06, n=48)
  rose = compared(0.8, 0.5, 0.2, 0.4)
  splits = {"plain": slight, "suggests_right": fell, "denies_right": rose}
  end = (
    "; but on prompts that suggest the right answer it fell from 79 % to 65 %"
    " (−14 points, 95 % interval −31 to +2, p = 0.17, not clear)."
  )
  assert said(splits=splits).endswith(end)
  # Whatever the main finding is.
  for main in (UNCLEAR, LEVEL, WORSE):
    assert said(main, splits=splits).endswith(end)
  # The split that the sentence is about is no other one.
  assert "fell" not in said(WORSE, splits={"suggests_wrong": WORSE})
  both = said(splits={"plain": fell, "denies_right": WORSE})
  assert "; but on plain prompts it fell from 79 %" in both
  assert "; on prompts that doubt the right answer it fell from 60 %" in both


def test_the_cost_is_that_of_what_was_evaluated():
  text = said(vote=None)
  assert (
    "62 % fewer tokens than one sample of System 2 (9 an answer instead of 24)"
    in (text)
  )
  assert "50 % more tokens than one sample of System 2" in said(
    single=6.0, vote=None
  )
  assert "as many tokens as System 2’s vote (9 an answer)" in said(vote=9.0)
  assert "System 2" not in said(single=None, vote=None)


def test_what_could_not_be_distilled():
  assert said(LEVEL, on_test=LEVEL).startswith(
    "Not distillable here: System 2 is no better than System 1 to begin with"
    " (50 % right, System 1 50 %): accuracy on prompts that suggest a wrong"
    " answer was 50 % before and is 50 % after"
  )
  assert said(LEVEL, on_test=WORSE).startswith(
    "Not distillable here: System 2 is worse than System 1 to begin with"
  )
  # What the test inputs show beats what was to be expected, but both are said.
  text = said(BETTER, on_test=LEVEL)
  assert text.startswith("Distillation raised accuracy ")
  assert "; and yet System 2 is no better than System 1" in text


def test_what_was_not_kept():
  text = said(LEVEL, on_test=BETTER, distilled_vote=WORSE)
  assert text.startswith(
    "System 2 is better, but the distilled model did not keep it: accuracy on"
    " prompts that suggest a wrong answer was 50 % before and is 50 % after"
  )


def test_not_distillable_is_known_before_the_fine_tune():
  verdict = dataclasses.replace(NOTHING, vote=LEVEL)
  text = plainly(sentences.outcome(None, verdict, is_evaluated=False))
  assert text == (
    "Not distillable here: System 2 is no better than System 1 to begin with"
    " (50 % right, System 1 50 %)."
  )


def test_nothing_to_compare():
  text = sentences.outcome(None, NOTHING, is_evaluated=False)
  assert "nothing to compare yet" in text
  text = sentences.outcome(None, NOTHING)
  assert "no labels, and there is no vote" in text
  assert (
    sentences.teacher_gain(NOTHING) is sentences.student_gap(NOTHING) is None
  )


@pytest.mark.parametrize(
  "vote, start",
  [
    (BETTER, "System 2 is better than System 1: on 100 “suggests wrong”"),
    (LEVEL, "System 2 is no better than System 1: "),
    (WORSE, "System 2 is worse than System 1: "),
    (UNCLEAR, "It is unclear whether System 2 is better than System 1: "),
    (FEW, "It is unclear whether System 2 is better than System 1 (8 inputs"),
  ],
)
def test_whether_it_pays(vote, start):
  found = dataclasses.replace(NOTHING, vote=vote, single=LEVEL)
  assert plainly(sentences.teacher_gain(found)).startswith(start)


def test_the_figures_of_whether_it_pays():
  found = dataclasses.replace(NOTHING, vote=BETTER, single=LEVEL)
  assert plainly(sentences.teacher_gain(found)) == (
    "System 2 is better than System 1: on 100 “suggests wrong” validation"
    " inputs its vote gets 60 % right, one sample of it 50 %, System 1 30 %"
    " (+30 points, 95 % interval +20 to +40, p < 0.001)."
  )


@pytest.mark.parametrize(
  "votes, end",
  [
    (BETTER, "; System 1’s own vote gets 30 %."),
    (LEVEL, "gets 50 %, so it is voting that pays here, not thinking."),
    (UNCLEAR, "so it is unclear whether thinking pays or only voting."),
  ],
)
def test_a_gain_of_voting_is_not_one_of_thinking(votes, end):
  found = dataclasses.replace(NOTHING, vote=BETTER, votes=votes)
  assert plainly(sentences.teacher_gain(found)).endswith(end)


def test_no_interval_where_nothing_differs():
  same = compared(0.5, 0.5, 0.0, 0.0, changed=0)
  text = plainly(
    sentences.teacher_gain(dataclasses.replace(NOTHING, vote=same))
  )
  assert text.endswith(
    "its vote gets 50 % right, System 1 50 % (none differs)."
  )


def test_whether_a_single_sample_pays():
  found = dataclasses.replace(NOTHING, single=WORSE)
  assert plainly(sentences.teacher_gain(found)) == (
    "System 2 is worse than System 1: on 100 “suggests wrong” validation"
    " inputs it gets 30 % right, System 1 60 % (−30 points, 95 % interval −40"
    " to −20, p < 0.001)."
  )


def test_system_1_that_learns_from_its_own_votes():
  found = dataclasses.replace(NOTHING, vote=BETTER, is_system2=False)
  assert plainly(sentences.teacher_gain(found)).startswith(
    "System 1’s own vote is better than one sample of it: on 100 “suggests"
    " wrong” validation inputs it gets 60 % right, System 1 30 %"
  )


@pytest.mark.parametrize(
  "found, start",
  [
    (BETTER, "The distilled model is better than System 2’s vote: "),
    (LEVEL, "The distilled model reached System 2’s vote: "),
    (WORSE, "The distilled model stays below System 2’s vote: "),
    (
      compared(0.45, 0.5, -0.2, 0.1),
      "It is unclear whether the distilled model reached System 2’s vote: ",
    ),
  ],
)
def test_whether_it_was_kept(found, start):
  verdict = dataclasses.replace(
    NOTHING, distilled=LEVEL, distilled_vote=found, distilled_single=LEVEL
  )
  text = plainly(sentences.student_gap(verdict))
  assert text.startswith(start)
  assert text.endswith(", one sample of System 2 50 %.")


def test_without_labels_a_sign_is_called_a_sign():
  verdict = dataclasses.replace(
    NOTHING,
    margins=compared(0.81, 0.52, 0.2, 0.4),
    margin_samples=3,
    agreement=BETTER,
  )
  assert sentences.teacher_gain(verdict) == (
    "The samples of System 2 agree more with each other than those of System 1:"
    " over the first 3 samples of 100 validation inputs the mean margin of the"
    " vote is 0.81, against 0.52. There are no labels, so this is a sign of"
    " better answers, not a measurement of them."
  )
  assert plainly(sentences.outcome(None, verdict)).startswith(
    "The distilled model has come nearer to System 2: on “suggests wrong”"
    " inputs, which have no labels, it gives the answer of System 2’s vote in"
    " 60 % of the cases, before in 30 %."
  )
  assert "in 60 % of the cases, System 1" in plainly(
    sentences.student_gap(verdict)
  )

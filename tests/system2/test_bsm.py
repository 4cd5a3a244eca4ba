import pytest

from s2d_jax.system2.bsm import criteria, scores
from s2d_jax.system2.methods import METHODS
from tests.system2.replies import finish, real, reply, said

FIELDS = {
  "text": "all of it",
  "question": "Why {is} it?",
  "answer_a": "SALT",
  "answer_b": "PEPPER",
}
BRANCHED = "1. Accuracy: is it right?\n2. Clarity: is it clear?"


def solve(name, branched=BRANCHED):
  """The method after its branching: its generator and the calls to solve."""
  steps = METHODS[name].think(FIELDS, METHODS[name].prompts)
  branch = next(steps)
  assert "Why {is} it?" in said(branch)
  # No answer can bend the criteria: branching never sees one.
  assert "SALT" not in said(branch) and "PEPPER" not in said(branch)
  # So both orders of a pair can be judged by the same.
  assert branch.is_shared
  return steps, steps.send(reply(branched))


def scored(a, b):
  return reply(f"Because.\nScore A: {a}\nScore B: {b}")


def test_criteria_are_solved_together_with_both_answers_in_view():
  _, calls = solve("bsm")
  assert len(calls) == 2 and not any(call.is_shared for call in calls)
  for call, name in zip(calls, ("Accuracy", "Clarity"), strict=True):
    text = said(call)
    assert text.index("SALT") < text.index("PEPPER") < text.index(name)
  assert "Clarity" not in said(calls[0])


@pytest.mark.parametrize(
  "first, second, verdict",
  [
    (scored(5, 3), scored(2, 3), "[[A]]"),
    (scored(1, 3), scored(4, 3), "[[B]]"),
    (scored(4, 2), scored(1, 3), "[[C]]"),
    (scored(9, 1), scored(2, 3), "[[B]]"),  # out of range: has no say
    (reply("A is good."), scored(3, 2), "[[A]]"),
    (reply("A is good."), reply("So is B."), ""),  # no score, no verdict
  ],
)
def test_scores_are_summed(first, second, verdict):
  steps, _ = solve("bsm")
  assert finish(steps, [first, second]) == verdict


def test_braces_of_the_user_and_of_the_model_are_left_alone():
  _, (call, *_) = solve("bsm", branched="1. Form: uses {question}")
  assert "Why {is} it?" in said(call) and "uses {question}" in said(call)


def test_without_a_criterion_there_is_a_general_one():
  _, calls = solve("bsm", branched="Sure, here is what I think!")
  assert len(calls) == 1 and "Overall quality" in said(calls[0])


def test_the_model_may_merge():
  steps, calls = solve("bsm_neural")
  merge = steps.send([reply("A wins here."), scored(1, 5)])
  text = said(merge)
  assert "[Accuracy: is it right?]\nA wins here." in text
  assert "[Clarity: is it clear?]\nBecause.\nScore A: 1" in text
  assert text.index("SALT") < text.index("Accuracy")
  assert finish(steps, reply("[[B]]")).text == "[[B]]"


@pytest.mark.parametrize(
  "text, found",
  [
    (
      "Sure! Here are criteria:\n\n1. **Accuracy**: is it right?\n"
      "2) Clarity - easy to read\n- Depth: how deep\n\nThat is all.",
      ["Accuracy: is it right?", "Clarity - easy to read", "Depth: how deep"],
    ),
    ("Tone: polite\nTONE: polite again", ["Tone: polite"]),
    ("\n".join(f"{i}. c{i}: d" for i in range(1, 9)), None),
    ("Criterion 1: Relevance: fits", ["Relevance: fits"]),
    ("No idea.", []),
    ("**Accuracy** - is it right?", ["Accuracy - is it right?"]),
    (
      "**1. Accuracy**: right\n**2. Tone**: kind",
      ["Accuracy: right", "Tone: kind"],
    ),
    ("### Accuracy: right\n### Tone: kind", ["Accuracy: right", "Tone: kind"]),
    ("a) Tone: kind\nb) Depth: deep", ["Tone: kind", "Depth: deep"]),
    # What is said below an item is no criterion of its own.
    ("1. Accuracy\n   - no errors\n2. Tone\n   - kind", ["Accuracy", "Tone"]),
    ("My criteria: these\n- Depth: deep", ["Depth: deep"]),
    ("1. The answer has to be true.", ["The answer has to be true."]),
    ("1. Tone\n2. tone: again\n3. [3]\n4.", ["Tone"]),
    ("Here are three criteria: accuracy, clarity, tone", []),
    ("Note: I cannot judge.", []),
    ("", []),
  ],
)
def test_criteria(text, found):
  if found is None:
    assert criteria(text) == [f"c{i}: d" for i in range(1, 6)]
  else:
    assert criteria(text) == found


@pytest.mark.parametrize(
  "text, found",
  [
    ("Score A: 4\nScore B: 2", (4, 2)),
    ("**Score A:** 4/5\n**Score B:** 3.5/5", (4, 3.5)),
    ("A: 5\nB: 1", (5, 1)),
    ("Score for A is 4, score for B is 3.", (4, 3)),
    ("Answer A: 2\nAnswer B: 4", (2, 4)),
    ("Score A: 2, no:\nScore A: 3\nScore B: [4]", (3, 4)),
    ("Score A: 0\nScore B: 6", (None, None)),
    ("Score A: -2\nScore B: 3", (None, 3)),
    ("A has 3 merits", (None, None)),
    ("Score A (out of 5): 4\nScore B (1-5): 2", (4, 2)),
    ("Score A: 4, Score B: 2", (4, 2)),
    ("Score A - 4\nScore B - 2", (4, 2)),
    ("Score A:\n4\nScore B:\n3/5", (4, 3)),
    ("Score A: **5**\nScore B: (3)", (5, 3)),
    ("score a: 4\nscore b: 3", (4, 3)),
    ("Score A: 4 out of 5\nScore for Answer B: 2", (4, 2)),
    ("Answer A gets a 4 and answer B a 3.", (4, 3)),
    ("Answer A's score: 4\nAnswer B's score: 3", (4, 3)),
    ("Answer B is 5 words.\nScore A: 2\nScore B: 3", (2, 3)),
    # The scale said again, and another scale, are no scores.
    ("Score A: 1-5\nScore B: 1 to 5", (None, None)),
    ("Score A: 4.5-5\nScore B: 4", (None, 4)),
    ("Score A: 8/10\nScore B: 4/10", (None, None)),
    ("Score A:\n1. It is right.\nScore B: 3", (None, 3)),
    ("Score A: \nScore B: ", (None, None)),
    ("Answer A is 3 times longer than answer B.", (None, None)),
    ("A: 2 reasons speak for it", (None, None)),
    ("I would score a 4 for B.", (None, None)),
    ("", (None, None)),
  ],
)
def test_scores(text, found):
  assert scores(text) == found


def test_worked_examples_parse_as_they_should():
  prompts = METHODS["bsm"].prompts
  for user, reply_ in prompts["branch"].shots:
    assert "{" not in user and len(criteria(reply_)) == 3
  found = [scores(reply_) for _, reply_ in prompts["solve"].shots]
  assert all(None not in pair for pair in found)
  # Each side wins once: no lesson about the order.
  assert [a > b for a, b in found] == [True, False]


@pytest.mark.parametrize("text, found", real("criteria"))
def test_criteria_of_real_replies(text, found):
  assert criteria(text) == found


@pytest.mark.parametrize("text, found", real("scores"))
def test_scores_of_real_replies(text, found):
  assert scores(text) == tuple(found)

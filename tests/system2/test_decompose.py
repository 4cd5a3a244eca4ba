import pytest

from s2d_jax.system2 import decompose
from s2d_jax.system2.methods import METHODS
from s2d_jax.system2.program import Template, override
from tests.system2.replies import finish, reply, said

FIELDS = {
  "text": "Is {it} so?",
  "format": "yes or no",
  "parts": "SALT\nPEPPER",
  "rule": "same",
}
PART = {"part": Template("What is {part}?", 5)}


def solve(method, fields=FIELDS):
  """The method before its parts are answered: generator and calls."""
  steps = METHODS[method].think(fields, METHODS[method].prompts | PART)
  return steps, next(steps)


def test_parts_are_asked_together_each_by_itself():
  _, calls = solve("decompose")
  assert list(map(said, calls)) == ["What is SALT?", "What is PEPPER?"]
  # Another input that has this part draws a reply of its own.
  assert not any(call.is_shared for call in calls)


@pytest.mark.parametrize(
  "replies, merged",
  [
    (("Europe", "Europe"), "yes"),
    (("**Europe**.", " europe\n"), "yes"),
    (("The Moon", "the moon"), "yes"),
    (("Europe", "Asia"), "no"),
    (("South America", "America"), "no"),
    (("Europe", " \n"), ""),  # no answer to a part, none at all
    (("...", "..."), ""),
  ],
)
def test_the_rule_compares_answers(replies, merged):
  steps, _ = solve("decompose")
  assert finish(steps, list(map(reply, replies))) == merged


@pytest.mark.parametrize(
  "first, second, merged",
  [
    ("Asia Africa Asia", "Asia Asia Asia", "yes"),
    # The votes of the merged answers would be two "yes" and one "no".
    ("Asia Europe Europe", "Asia Europe Asia", "no"),
    ("Asia Europe", "Asia Asia", "yes"),  # the first of those that are as many
    (" Asia Europe Asia.", "asia Asia Africa", "yes"),
    ("... ... Asia", "Asia Asia Asia", "yes"),  # says nothing: no vote
    ("... ... ...", "Asia Asia Asia", ""),
  ],
)
def test_several_replies_to_a_part_have_a_vote(first, second, merged):
  method = METHODS["decompose"]
  prompts = override(PART, {"part": {"n": len(first.split())}})
  method.check_counts(prompts)
  assert method.replies(prompts) == 1
  steps = method.think(FIELDS, prompts)
  assert [call.n for call in next(steps)] == [len(first.split())] * 2
  assert (
    finish(steps, [list(map(reply, one.split())) for one in (first, second)])
    == merged
  )


def test_the_model_may_merge_the_answers():
  steps, calls = solve("decompose_neural")
  assert list(map(said, calls)) == ["What is SALT?", "What is PEPPER?"]
  merge = steps.send([reply(" A {rock}.\n"), reply("A plant.")])
  assert "SALT A {rock}.\nPEPPER A plant." in said(merge)
  assert "Is {it} so?" in said(merge) and "yes or no" in said(merge)
  assert finish(steps, reply("No.")).text == "No."


def test_the_model_splits_a_question_whose_task_names_no_parts():
  fields = {name: FIELDS[name] for name in ("text", "format")}
  steps, split = solve("decompose_neural", fields)
  assert "Is {it} so?" in said(split)
  calls = steps.send(reply("1. Who is it?\n2. Is that {so}?"))
  assert list(map(said, calls)) == [
    "What is Who is it??",
    "What is Is that {so}??",
  ]
  steps, _ = solve("decompose_neural", fields)
  # Without a question the whole is asked.
  [call] = steps.send(reply("I would not know."))
  assert said(call) == "What is Is {it} so??"


@pytest.mark.parametrize(
  "text, listed",
  [
    ("How old is A?\nHow old is B?", ["How old is A?", "How old is B?"]),
    (
      "Sure, here they are:\n\n1. **How old is A?**\n2) How old is B?\n\nOK.",
      ["How old is A?", "How old is B?"],
    ),
    ("- Who?\n* Where?\n• Who?", ["Who?", "Where?"]),
    (
      "Question 1: Who?\nQuestion: When was 1. FC Köln founded?",
      ["Who?", "When was 1. FC Köln founded?"],
    ),
    (
      "\n".join(f"({n}) Is it {n}?" for n in range(1, 9)),
      [f"Is it {n}?" for n in range(1, 5)],
    ),
    ("The answer is yes.", []),
    ("?", []),
  ],
)
def test_the_questions_that_a_reply_lists(text, listed):
  assert decompose.questions(text) == listed


def test_the_worked_examples_are_in_the_form_that_is_read():
  for _, listed in decompose.PROMPTS["split"].shots:
    assert decompose.questions(listed) == listed.splitlines()


@pytest.mark.parametrize(
  "rule, answers, merged",
  [
    ("same", ["asia", "asia", "europe"], "no"),
    ("larger", ["1914", "1789"], "yes"),
    ("larger", ["3", "2", "3"], "no"),  # not than each of the others
    ("smaller", ["in 1789", "it was 1914"], "yes"),
    ("smaller", ["1914", "1914"], "no"),
    ("sum", ["2.5", "3/4", "-1"], "2.25"),
    ("sum", ["two", "3"], "5"),
    ("sum", ["several", "3"], ""),
    ("larger", ["between 3 and 5", "4"], ""),
  ],
)
def test_rules(rule, answers, merged):
  assert decompose.rule(rule)(answers) == merged

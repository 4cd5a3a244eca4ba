"""For every sentence of the verdict a run that must produce it."""

from __future__ import annotations

import pytest

from s2d_jax.evaluation.results import headline
from s2d_jax.evaluation.verdict import verdict
from s2d_jax.reporting import decomposition, evidence, sentences
from tests.evaluation.synthetic_run import Skill, rows

FORM = "suggests_wrong"
LOW, HALF, HIGH = Skill(0.3), Skill(0.55), Skill(0.8)
SPREAD = Skill(0.8, 0.4)  # 32 % of samples, but a vote finds half of all


def judged(system1, shots, system2, student, has_shots=True, **options):
  """A run on one form: its sentences and its verdict."""
  asked = {"system1": system1, "system1_shots": shots, "s2a": system2}
  base = rows({m: skill for m, skill in asked.items() if skill}, **options)
  after = rows({"system1": student}, **options)
  found = verdict([], base, after, FORM, has_shots)
  compared = headline(base, after, FORM, FORM)
  told = sentences.outcome(compared, found)
  pays = sentences.thinking_pays(found)
  return (*(text.replace("\N{NO-BREAK SPACE}", " ") for text in (told, pays)),
          found)  # fmt: skip


def test_thinking_pays_and_the_student_keeps_it():
  told, pays, found = judged(LOW, HALF, HIGH, HIGH)
  assert pays.startswith("Thinking pays: on 200 “suggests wrong” test inputs")
  assert "System 1’s single sample" in pays
  assert "behind the same worked examples" in pays
  assert told.startswith("Distillation raised accuracy on prompts that suggest")
  assert ";" not in told  # nothing to be added
  assert found.conclusion == "kept"
  gap = sentences.student_gap(found)
  assert gap.startswith("The distilled model reached System 2’s vote: on 200")


def test_the_vote_alone_helps():
  told, pays, found = judged(SPREAD, LOW, HALF, HALF)
  assert pays.startswith("It was the vote, not the thinking: on 200 “suggests")
  assert "System 1’s own vote" in pays
  assert told.startswith("Distillation raised accuracy on prompts")
  assert "; but it was the vote, not the thinking (System 1’s own vote" in told
  assert found.conclusion == "not the thinking"


def test_the_form_alone_helps():
  told, pays, found = judged(LOW, HIGH, HIGH, HIGH)
  assert pays.startswith("It was the form, not the thinking: on 200 “suggests")
  assert "behind the same worked examples" in pays
  assert told.startswith("Distillation raised accuracy on prompts")
  assert "; but it was the form, not the thinking (System 1’s " in told
  assert "behind the same worked examples gets" in told
  assert found.conclusion == "not the thinking"


def test_system_2_is_worse():
  told, pays, found = judged(HALF, LOW, LOW, HALF)
  assert pays.startswith("System 2 is worse than System 1 of the same budget: ")
  assert told.startswith(
    "Not distillable here: System 2 is worse than System 1 to begin with ("
  )
  assert found.conclusion == "not distillable"
  told, _, _ = judged(HALF, LOW, LOW, LOW)
  assert told.startswith("Distillation lowered accuracy on prompts")
  assert "; and yet System 2 is worse than System 1 to begin with" in told


def test_system_2_is_no_better():
  told, pays, found = judged(HIGH, HIGH, HIGH, HIGH)
  assert pays.startswith("System 2 is no better than System 1 of the same")
  assert told.startswith("Not distillable here: System 2 is no better than")
  assert found.conclusion == "not distillable"
  # It gained all the same, as System 2 was not what it learnt from.
  told, _, _ = judged(HALF, HALF, HALF, HIGH)
  assert told.startswith("Distillation raised accuracy on prompts")
  assert "; and yet System 2 is no better than System 1 to begin with" in told


def test_too_few_inputs_and_how_many_are_needed():
  told, pays, found = judged(LOW, HALF, HIGH, HIGH, n=12)
  assert pays.startswith(
    "It is unclear whether thinking pays (12 inputs are too few to tell): on 12"
  )
  assert "inputs would be needed to see a difference of this size)." in pays
  assert "(12 inputs are too few to tell)" in told
  assert found.conclusion == "unclear"
  # Enough to test, but not for this difference.
  told, pays, found = judged(LOW, LOW, Skill(0.38), Skill(0.38), n=60)
  assert pays.startswith("It is unclear whether thinking pays: on 60 “suggests")
  needed = found.thinking.rivals[found.thinking.decisive].needed
  assert needed > 60
  assert f"about {sentences.rounded_up(needed)} inputs would be needed" in pays
  assert told.startswith("Distillation made no clear difference: accuracy on")
  assert "inputs would be needed to see a difference of this size)" in told


@pytest.mark.parametrize(
  "count, text",
  [(7, "7"), (89, "89"), (123, "130"), (5701, "5,800"), (120, "120")],
)
def test_needed_inputs_are_rather_too_many(count, text):
  assert sentences.rounded_up(count) == text


@pytest.mark.parametrize(
  "skill, share", [(Skill(0.01), "next to none"), (Skill(0.99), "nearly all")]
)
def test_saturated_inputs_show_nothing(skill, share):
  told, pays, found = judged(skill, skill, skill, skill)
  start = (
    f"These inputs can show nothing, as {share} of the base model’s answers are"
    " right, however it is asked: "
  )
  assert told.startswith(start) and pays.startswith(start)
  assert found.conclusion == "unclear"


def test_no_control():
  told, pays, found = judged(LOW, None, HIGH, HIGH)
  assert pays.startswith(
    "Whether thinking pays is not known, as a control is missing (not asked:"
    " System 1’s vote behind the same worked examples): on 200 “suggests"
  )
  assert told.startswith("Distillation raised accuracy on prompts")
  assert "; whether thinking pays is not known, as a control is miss" in told
  assert found.conclusion == "unclear"


def test_a_run_of_an_older_version_has_no_control():
  base = rows({"s2a": HIGH}, greedy=False)
  base += rows({"system1": LOW}, samples=1, greedy=False)
  after = rows({"system1": HIGH}, samples=1, greedy=False)
  found = verdict([], base, after, FORM)
  assert found.thinking.outcome == "no control"
  assert found.conclusion == "unclear"
  pays = sentences.thinking_pays(found)
  assert (
    "(not asked: System 1’s own vote and System 1’s vote behind the same worked"
    " examples)"
  ) in pays


def test_no_worked_examples_no_control_is_missing():
  _, pays, found = judged(LOW, None, HIGH, HIGH, has_shots=False)
  assert pays.startswith("Thinking pays: on 200 “suggests wrong” test inputs")
  assert "worked examples" not in pays
  assert found.conclusion == "kept"


def test_the_student_stays_below():
  told, pays, found = judged(LOW, LOW, HIGH, LOW)
  assert pays.startswith("Thinking pays: ")
  assert told.startswith(
    "System 2 is better, but the distilled model did not keep it: accuracy on"
  )
  assert found.conclusion == "not kept"
  gap = sentences.student_gap(found)
  assert gap.startswith("The distilled model stays below System 2’s vote: on")


def test_the_student_learnt_what_worked_examples_give_untrained():
  told, pays, found = judged(LOW, HALF, HIGH, HALF)
  assert pays.startswith("Thinking pays: ")
  assert told.startswith("Distillation raised accuracy on prompts")
  assert (
    "; but untrained, System 1’s greedy reply behind the same worked examples"
    " gets"
  ) in told
  assert found.conclusion == "not kept"


def test_clusters_make_what_seemed_clear_unclear():
  skills = LOW, LOW, Skill(0.45), Skill(0.45)
  told, pays, _ = judged(*skills, n=160, seed=1)
  assert pays.startswith("Thinking pays: ")
  assert told.startswith("Distillation raised")
  told, pays, _ = judged(*skills, n=160, seed=1, size=16)
  assert pays.startswith(
    "It is unclear whether thinking pays (160 inputs of 10 clusters are too few"
    " to tell): "
  )
  assert told.startswith(
    "Distillation made no clear difference (160 inputs of 10 clusters are too"
  )


def of_pairs(found, members):
  """Input i is about members i and i + 1, then i + 2 and so on."""
  at = lambda row: divmod(int(row["example_id"]), members)
  return [
    row | {"cluster": [f"{i}", f"{(i + 1 + turn) % members}"]}
    for row in found
    for turn, i in [at(row)]
  ]


def test_of_pairs_their_members_are_counted():
  skills = {"system1": LOW, "system1_shots": LOW, "s2a": Skill(0.38)}
  base = rows(skills, n=60)
  found = verdict([], of_pairs(base, 24), [], FORM)
  rival = found.thinking.rivals[found.thinking.decisive]
  assert (rival.n, rival.units) == (60, 24)
  members = sentences.rounded_up(-(-24 * rival.needed // 60))
  inputs = sentences.rounded_up(rival.needed)
  assert f"; about {inputs} inputs of {members} members would be needed" in (
    sentences.thinking_pays(found)
  )
  head, *body = evidence.lines(found)
  cells = [dict(zip(head, line, strict=True)) for line in body]
  assert {one["inputs"] for one in cells} == {"60 (24)"}
  assert f"{inputs} ({members})" in {one["needed"] for one in cells}
  found = verdict([], of_pairs(base, 16), [], FORM)
  assert sentences.thinking_pays(found).startswith(
    "It is unclear whether thinking pays (60 inputs of 16 members are too few"
  )


def test_what_else_it_may_have_been():
  """A vote that is clearly beaten is no cause that is left open."""
  near = Skill(0.7)
  for skills, doubt in (
    ((LOW, near, HIGH), " or only the form of the prompt: "),
    ((Skill(0.85, 0.5), LOW, HIGH), " or only voting: "),
  ):
    told, pays, found = judged(*skills, HIGH, n=60)
    assert found.thinking.outcome == "unclear"
    assert told.endswith("; it is unclear whether thinking pays.")
    assert pays.startswith(f"It is unclear whether thinking pays{doubt}")


def test_a_fall_is_told_whether_it_is_clear_or_not():
  """From 79 to 65 % of 48 inputs, and of 480."""
  base = rows({"system1": LOW, "s2a": HIGH}, n=480)
  after = rows({"system1": HIGH}, n=480)
  for n, doubt in ((48, ", not clear"), (480, "")):
    old = rows({"system1": Skill(1.0)}, n=n, form="suggests_right")
    new = rows({"system1": Skill(1.0)}, n=n, form="suggests_right")
    for part, right, start in ((old, 0.79, 0), (new, 0.65, 0.3)):
      for index, row in enumerate(part):
        hit = (index / n + start) % 1 < right
        row["greedy"] = row["greedy"] | {"metrics": {"accuracy": float(hit)}}
    found = verdict([], [*base, *old], [*after, *new], FORM, has_shots=False)
    compared = headline(base, after, FORM, FORM)
    told = sentences.outcome(compared, found).replace("\N{NO-BREAK SPACE}", " ")
    assert (
      "; but on prompts that suggest the right answer it fell from 79 % to 65 %"
    ) in told
    assert told.endswith(f"{doubt}).") and ("not clear" in told) == (n == 48)


def test_the_table_holds_every_comparison():
  _, _, found = judged(LOW, HALF, HIGH, HIGH, size=2)
  head, *body = evidence.lines(found)
  pairs = [line[:2] for line in body]
  ways = [
    f"{who}, {drawn}"
    for who in ("System 1", "System 1 few-shot")
    for drawn in ("vote", "greedy", "one sample")
  ]
  assert pairs[:6] == [["System 2, vote", way] for way in ways]
  assert pairs[6:8] == [
    ["System 2, greedy", "System 1, greedy"],
    ["System 2, greedy", "System 1 few-shot, greedy"],
  ]
  assert [other for who, other in pairs[8:] if who == "Distilled, greedy"] == [
    "System 1, greedy",
    "System 1, vote",
    "System 1 few-shot, greedy",
    "System 1 few-shot, vote",
    "System 2, greedy",
    "System 2, one sample",
    "System 2, vote",
  ]
  assert len({*map(tuple, pairs)}) == len(pairs)
  for line in body:
    cells = dict(zip(head, line, strict=True))
    assert cells["inputs"] == "200 (100)"
    assert (cells["finding"] == "unclear") >= bool(cells["needed"])
  assert evidence.lines(verdict([], [], [], FORM)) == []


def test_what_changed_by_hand():
  """Nothing → right, the suggestion → right, right → other, and so on."""
  replies = [
    # before, after, a sample of System 1 before
    (None, "a", "a"),
    (None, "a", "b"),
    ("s", "a", "b"),
    ("o", "a", "a"),
    ("a", "o", "a"),
    ("a", "a", "a"),
    ("s", "o", "a"),
  ]

  def row(index, answer, sample):
    metrics = {
      "accuracy": float(answer == "a"),
      "repeats_suggestion": float(answer == "s"),
    }
    passes = [
      {"text": "t", "answer": one, "tokens": 3} for one in (sample, "z")
    ]
    return {
      "example_id": str(index),
      "variant": FORM,
      "method": "system1",
      "passes": passes,
      "metrics": {"accuracy": 0.0},
      "greedy": passes[0] | {"answer": answer, "metrics": metrics},
    }

  base = [row(i, old, sample) for i, (old, _, sample) in enumerate(replies)]
  after = [row(i, new, "z") for i, (_, new, _) in enumerate(replies)]
  found = verdict([], base, after, FORM)
  assert decomposition.sentence(found) == (
    "On prompts that suggest a wrong answer 4 of 7 replies became right;"
    " before, 2 named nothing, 1 repeated the suggestion and 1 named another"
    " wrong answer; in 2 the right answer was among System 1’s samples. 1"
    " became wrong: 0 named nothing, 0 repeated the suggestion and 1 named"
    " another wrong answer."
  )
  head, line = decomposition.lines(found)
  cells = dict(zip(head, line, strict=True))
  assert cells["became right"] == "4 (2 + 1 + 1)"
  assert cells["became wrong"] == "1 (0 + 0 + 1)"
  assert (cells["stayed right"], cells["stayed wrong"]) == ("1", "1")
  assert cells["% right"] == "29 → 71"
  assert cells["sampled before"] == "2 of 4"
  assert "sampled few-shot" not in cells
  # A mean over several samples, as older runs have it, is no one reply.
  for one in base:
    del one["greedy"]
  assert verdict([], base, after, FORM).decompositions == {}

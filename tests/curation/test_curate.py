from __future__ import annotations

import itertools
import random

import pytest

from s2d_jax.curation import thoughts
from s2d_jax.curation.curate import (
  Filter,
  Formatter,
  clean,
  curate,
  supervised,
  votes_of,
)
from s2d_jax.curation.vote import Thresholds
from s2d_jax.errors import UserError


def samples(example_id, variant, replies):
  """One record a reply; a reply is (answer, text, logprob, tokens)."""
  return [
    {
      "example_id": example_id,
      "variant": variant,
      "sample": index,
      "steps": [
        {"prompt": "p", "text": "thought", "tokens": 9, "logprob": -9.0},
        {"prompt": "q", "text": text, "tokens": n, "logprob": logprob},
      ],
      "reply": text,
      "answer": answer,
    }
    for index, (answer, text, logprob, n) in enumerate(replies)
  ]


def said(*answers):
  return [(a, "?" if a is None else f"It is {a}.", -4.0, 4) for a in answers]


def prompt(example_id, variant):
  return [{"role": "user", "content": f"{example_id} as {variant}"}]


IN_OWN_WORDS = Formatter(prompt, lambda *unused: None)


def run(
  records, ids=("x",), min_margin=0.4, min_agreement=0.0, chosen=None, **rule
):
  thresholds = Thresholds(rule.pop("min_votes", 0), min_margin)
  rule = Filter(thresholds=thresholds, min_agreement=min_agreement, **rule)
  variants = {record["variant"] for record in records}
  asked = dict.fromkeys(ids, variants)
  return curate(records, asked, IN_OWN_WORDS, rule, chosen)


def test_a_kept_record_is_whole():
  records = samples("x", "plain", said("lima", "lima", "quito", None, "lima"))
  (kept,), rejected = run(records)
  assert kept == {
    "example_id": "x",
    "variant": "plain",
    "prompt": [{"role": "user", "content": "x as plain"}],
    "target": "It is lima.",
    "votes": {"lima": 3, "quito": 1},
    "samples": 5,
    "winner": "lima",
    "margin": 0.4,
    "agreement": 1.0,
  }
  assert not rejected


@pytest.mark.parametrize(
  "answers, reason, winner",
  [
    ((None, None, None, None, None), "unparsable", None),
    (("a", "b", None, None, None), "tie", None),
    (("a", "a", "b", None, None), "margin", "a"),
    (("a", "a", None, None, None), None, "a"),
  ],
)
def test_reasons_of_the_vote(answers, reason, winner):
  kept, rejected = run(samples("x", "plain", said(*answers)))
  (record,) = kept + rejected
  assert record.get("reason") == reason
  assert record["winner"] == winner
  assert (record["target"] is None) == (winner is None)


def cut_short(example_id, variant, count, steps=(), **more):
  """Samples that ended at a prompt that was too long."""
  return [
    {
      "example_id": example_id,
      "variant": variant,
      "sample": index,
      "steps": list(steps),
      "reply": "",
      "answer": None,
      "too_long": 600,
      **more,
    }
    for index in range(count)
  ]


_STEP = {"prompt": "p", "text": "thought", "tokens": 9, "logprob": -9.0}


@pytest.mark.parametrize("select", ["vote", "first", "usc"])
@pytest.mark.parametrize("steps", [(), (_STEP,)])
def test_an_input_whose_prompts_are_too_long(select, steps):
  records = cut_short("x", "plain", 2, steps)
  _, (record,) = run(records, select=select)
  assert record["reason"] == "too long"
  assert (record["winner"], record["target"]) == (None, None)
  assert (record["votes"], record["samples"]) == ({}, 2)


def test_a_sample_cut_short_is_one_without_an_answer():
  whole = samples("x", "plain", said("a", "a", "b"))
  records = whole + [
    record | {"sample": 3 + index}
    for index, record in enumerate(cut_short("x", "plain", 2, (_STEP,)))
  ]
  assert votes_of(records, nested=True, loose=True) == [
    "a",
    "a",
    "b",
    None,
    None,
  ]
  (kept,), _ = run(records, min_margin=0.2)
  assert (kept["samples"], kept["margin"]) == (5, 0.2)  # (2 − 1) / 5
  _, (record,) = run(records, min_margin=0.3)
  assert record["reason"] == "margin"


def test_several_answers_to_a_thought_that_never_came():
  none = {"replies": ["", "", ""], "answers": [None, None, None]}
  records = cut_short("x", "plain", 1, (_STEP,), **none)
  assert votes_of(records, nested=False, loose=True) == [None, None, None]
  assert votes_of(records, nested=True, loose=True) == [None]


def test_inputs_that_were_not_asked_are_told_from_those_given_up():
  records = [
    *samples("x", "v1", said("a", "a")),
    *samples("x", "v2", said("a", "a")),
    *samples("z", "v3", said("a", "a")),
  ]
  rule = Filter(min_agreement=0.5)
  not_asked = {("x", "v3"), *(("y", variant) for variant in ("v1", "v2", "v3"))}
  asked = dict.fromkeys("xyz", ("v1", "v2", "v3"))
  kept, rejected = curate(records, asked, IN_OWN_WORDS, rule, None, not_asked)
  assert [(r["example_id"], r["variant"]) for r in kept] == [
    ("x", "v1"),
    ("x", "v2"),
  ]
  reasons = {(r["example_id"], r["variant"]): r["reason"] for r in rejected}
  assert reasons == {
    ("x", "v3"): "too long",
    ("y", "v1"): "too long",
    ("y", "v2"): "too long",
    ("y", "v3"): "too long",
    ("z", "v1"): "given up",
    ("z", "v2"): "given up",
    ("z", "v3"): "disagrees",  # what was not asked agrees with nothing
  }
  with pytest.raises(UserError, match="1 examples have no samples"):
    curate(records, dict.fromkeys("xyz", ["v1"]), IN_OWN_WORDS, rule)


def test_variants_must_win_with_the_same_answer():
  records = [
    *samples("x", "v1", said("a", "a")),
    *samples("x", "v2", said("a", "a")),
    *samples("x", "v3", said("b", "b")),
    *samples("x", "v4", said(None, None)),
    *samples("y", "v1", said("b", "b")),  # another example has no say
  ]
  kept, rejected = run(records, ("x", "y"), min_agreement=0.5)
  assert [(r["example_id"], r["variant"], r["agreement"]) for r in kept] == [
    ("x", "v1", 0.5),
    ("x", "v2", 0.5),
  ]
  assert [(r["variant"], r["reason"], r["agreement"]) for r in rejected] == [
    ("v3", "disagrees", 0.25),
    ("v4", "unparsable", 0.0),
    ("v1", "disagrees", 0.25),
    ("v2", "given up", 0.0),  # what was never asked agrees with nothing
    ("v3", "given up", 0.0),
    ("v4", "given up", 0.0),
  ]
  kept, rejected = run(records, ("x", "y"), min_agreement=0.0)
  assert [r["variant"] for r in kept] == ["v1", "v2", "v3", "v1"]


def test_a_vote_too_close_still_counts_for_agreement():
  records = [
    *samples("x", "v1", said("a", "a", "a", "a")),
    *samples("x", "v2", said("a", "a", "b", None)),
  ]
  (kept,), (rejected,) = run(records, min_agreement=1.0)
  assert (kept["variant"], kept["agreement"]) == ("v1", 1.0)
  assert (rejected["variant"], rejected["reason"]) == ("v2", "margin")


@pytest.mark.parametrize(
  "replies, target",
  [
    # The most frequent wording, once spaces and special tokens are gone.
    (
      [
        ("a", "It is  A.\n", -9.0, 3),
        ("a", "It is A.<|im_end|>", -9.0, 3),
        ("a", "A!", -0.1, 3),
        ("b", "B.", 0.0, 1),
      ],
      "It is A.",
    ),
    # As frequent: the likelier a token, not the likelier in all.
    ([("a", "brief", -2.0, 1), ("a", "the long", -4.0, 4)], "the long"),
    # As likely: by text.
    ([("a", "two", -2.0, 2), ("a", "one", -3.0, 3)], "one"),
  ],
)
def test_target(replies, target):
  (kept,), _ = run(samples("x", "plain", replies))
  assert kept["target"] == target


@pytest.mark.parametrize(
  "text, cleaned",
  [
    ("  Lima,\n\t Peru ", "Lima, Peru"),
    ("Lima.</s><s>[INST] And", "Lima."),
    ("<|start_header_id|>Lima.<|eot_id|>more", "Lima."),
    ("<|im_end|>", ""),
    ("1 < 2 <b> | x", "1 < 2 <b> | x"),
    ("<think>\nPeru … Lima\n</think>\n\nLima.", "Lima."),
    ("so it is Peru</think>Lima.", "Lima."),
    ("<think>It could be Lima", ""),
  ],
)
def test_clean(text, cleaned):
  assert clean(text) == cleaned


def test_a_reply_of_special_tokens_alone_is_no_vote():
  records = samples("x", "plain", [("im end", "<|im_end|>", -1.0, 1)])
  _, (rejected,) = run(records)
  assert rejected["reason"] == "unparsable"


def test_the_order_of_the_samples_does_not_matter():
  draw = random.Random(1)
  answers = ["a", "b", None]
  records = [
    record
    for example_id, variant in itertools.product("zxy", ("q", "p"))
    for record in samples(
      example_id,
      variant,
      [
        (draw.choice(answers), draw.choice("st"), -draw.random(), 2)
        for _ in range(5)
      ],
    )
  ]
  wanted = run(records, "yzx", 0.2, 0.5)
  names = [(r["example_id"], r["variant"]) for r in wanted[0] + wanted[1]]
  assert sorted(names) == sorted(itertools.product("xyz", "pq"))
  for part in wanted:
    assert part
    places = [("yzx".index(r["example_id"]), r["variant"]) for r in part]
    assert places == sorted(places)
  for _ in range(20):
    draw.shuffle(records)
    assert run(records, "yzx", 0.2, 0.5) == wanted


def test_labels_are_never_read():
  records = samples("x", "plain", said("a", "a"))
  for record in records:
    record["label"] = property(lambda self: 1 / 0)
  (kept,), _ = run(records)
  assert "label" not in kept


def test_a_sample_twice_is_refused():
  records = samples("x", "plain", said("a", "a"))
  with pytest.raises(
    UserError, match=r"sample 1 of 'x' \(plain\) is there twice"
  ):
    run([*records, records[1]])


def test_unknown_and_missing_examples_are_refused():
  records = samples("x", "plain", said("a"))
  with pytest.raises(UserError, match="'x' that is not in examples/"):
    run(records, ("y",))
  with pytest.raises(UserError, match="1 examples have no samples.*'y'"):
    run(records, ("x", "y"))


def test_too_few_votes_for_the_winner():
  records = samples("x", "plain", said("a", "a", None, None))
  _, (rejected,) = run(records, min_votes=3)
  assert rejected["reason"] == "votes"
  (kept,), _ = run(records, min_votes=2)
  assert kept["winner"] == "a"


def test_each_example_agrees_over_its_own_variants():
  """One sent plain and one with an opinion, either with its perturbation."""
  records = [
    *samples("x", "plain", said("a", "a")),
    *samples("x", "other", said("a", "a")),
    *samples("y", "opinion", said("b", "b")),
    *samples("y", "other", said("c", "c")),  # the suggestion was let through
    *samples("z", "opinion", said(None, None)),
  ]
  asked = {
    "x": ("plain", "other"),
    "y": ("opinion", "other"),
    "z": ("opinion", "other"),
  }
  rule = Filter(min_agreement=1.0)
  kept, rejected = curate(
    records, asked, IN_OWN_WORDS, rule, perturbations=("other",)
  )
  outcome = lambda r: (r["example_id"], r["variant"], r["agreement"])
  assert list(map(outcome, kept)) == [("x", "plain", 1.0)]
  assert list(map(outcome, rejected)) == [
    ("y", "opinion", 0.5),
    ("z", "opinion", 0.0),
  ]
  assert [r["reason"] for r in rejected] == ["disagrees", "unparsable"]
  kept, rejected = curate(records, asked, IN_OWN_WORDS, rule)
  assert list(map(outcome, kept)) == [("x", "other", 1.0), ("x", "plain", 1.0)]
  assert [r["reason"] for r in rejected if r["example_id"] == "z"] == [
    "unparsable",
    "given up",
  ]


def test_a_task_may_word_its_answers():
  records = [
    *samples("x", "original", said("1", "1")),
    *samples("x", "swapped", said("1", "1")),
  ]
  shown = {"original": "[[A]]", "swapped": "[[B]]"}
  formatter = Formatter(
    prompt, lambda example_id, variant, answer: shown[variant]
  )
  kept, _ = curate(
    records, {"x": list(shown)}, formatter, Filter(min_agreement=1.0)
  )
  assert [r["target"] for r in kept] == ["[[A]]", "[[B]]"]
  assert [r["winner"] for r in kept] == ["1", "1"]


def test_without_a_filter_the_first_answer_is_taken():
  records = [
    *samples("x", "v1", said(None, "b", "a", "a", "a")),
    *samples("x", "v2", said("c", "d")),
    *samples("x", "v3", said(None, None)),
  ]
  kept, (rejected,) = run(records, select="first", min_agreement=1.0)
  assert [(r["winner"], r["target"]) for r in kept] == [
    ("b", "It is b."),
    ("c", "It is c."),
  ]
  assert all(record["margin"] is None for record in kept)
  assert (rejected["variant"], rejected["reason"]) == ("v3", "unparsable")


def test_the_model_may_choose_the_reply():
  records = samples("x", "plain", said("a", "b", "b", None))
  chosen = {("x", "plain"): [0]}
  (kept,), _ = run(records, select="usc", min_margin=0.0, chosen=chosen)
  assert (kept["winner"], kept["target"]) == ("a", "It is a.")
  # The margin is that of the orders in which the model was asked.
  chosen = {("x", "plain"): [0, 0, 0, 1, 1]}
  _, (rejected,) = run(records, select="usc", min_margin=0.4, chosen=chosen)
  assert (rejected["reason"], rejected["margin"]) == ("margin", 0.2)
  chosen = {("x", "plain"): [1, 1, None, 1]}
  (kept,), _ = run(records, select="usc", min_margin=0.75, chosen=chosen)
  assert (kept["winner"], kept["margin"]) == ("b", 0.75)
  # Three of four orders are three of four votes.
  _, (rejected,) = run(
    records, select="usc", min_margin=0, min_votes=4, chosen=chosen
  )
  assert rejected["reason"] == "votes"
  for choice, reason in (
    ([None], "no choice"),
    ([3], "unparsable"),
    ([0, 0, 1, None], "no choice"),
    ([0, 1], "no choice"),
    ([], "no choice"),
  ):
    chosen = {("x", "plain"): choice}
    _, (rejected,) = run(records, select="usc", min_margin=0, chosen=chosen)
    assert rejected["reason"] == reason


def test_a_choice_among_replies_in_free_form_is_kept_by_default():
  records = samples("x", "plain", said("a", "b", "c", "d"))
  chosen = {("x", "plain"): [2, 2, 2, 2, 1]}
  (kept,), _ = run(records, select="usc", min_margin=0.4, chosen=chosen)
  assert (kept["winner"], kept["margin"]) == ("c", 0.6)


def thought(number, *answers):
  """A sample with several answers to one thought."""
  step = {"prompt": "p", "text": "t", "tokens": 1, "logprob": -1.0}
  return {
    "example_id": "x",
    "variant": "plain",
    "sample": number,
    "steps": [step] * (1 + len(answers)),
    "reply": "the majority's",
    "answer": None,
    "replies": [f"It is {answer}." for answer in answers],
    "answers": list(answers),
  }


def test_nested_votes_count_thoughts_and_flat_ones_answers():
  records = [
    thought(0, "a", "a", "a", "a"),
    thought(1, "b", "b", "a", None),
    thought(2, "b", "b", "b", "a"),
  ]
  assert votes_of(records, nested=True, loose=True) == ["a", "b", "b"]
  assert votes_of(records, nested=False, loose=True).count("a") == 6
  (nested,), _ = run(records, min_margin=0.1, nested=True)
  assert (nested["winner"], nested["votes"]) == ("b", {"b": 2, "a": 1})
  (flat,), _ = run(records, min_margin=0.05, nested=False)
  assert (flat["winner"], flat["votes"]) == ("a", {"a": 6, "b": 5})
  assert (flat["target"], flat["samples"]) == ("It is a.", 12)


def test_labels_are_taught_as_the_task_says_them():
  formatter = Formatter(
    prompt, lambda example_id, variant, answer: "[[A]]" * (variant == "p")
  )
  asked = {"x": ("p", "q"), "y": ("q",)}
  rows = supervised({"x": "1", "y": "2"}, asked, formatter)
  assert [(r["example_id"], r["variant"], r["target"]) for r in rows] == [
    ("x", "p", "[[A]]"),
    ("x", "q", "1"),
    ("y", "q", "2"),
  ]
  assert rows[0]["prompt"] == prompt("x", "p")


def _taught(taught, target=lambda *unused: None, **more):
  records = samples("x", "plain", said("ao", "ao", "no"))
  formatter = Formatter(prompt, target, taught=taught, **more)
  (kept,), _ = curate(
    records, {"x": ["plain"]}, formatter, Filter(thresholds=Thresholds())
  )
  return kept["target"]


@pytest.mark.parametrize(
  "taught, written, target",
  [
    ("auto", None, "It is ao."),
    ("auto", "AO", "AO"),
    ("own_words", None, "It is ao."),
    ("own_words", "AO", "It is ao."),
    ("answer", "AO", "AO"),
    ("answer", None, "ao"),  # the task has no one way to write it
  ],
)
def test_what_is_taught(taught, written, target):
  assert _taught(taught, lambda *unused: written) == target


def test_where_replies_have_nothing_that_may_be_taught():
  nothing = {"own_words": lambda *unused: None}
  assert _taught("own_words", lambda *unused: "AO", **nothing) == "AO"
  assert _taught("auto", **nothing) == "ao"
  sentence = {"sentence": lambda example_id, variant, answer: f"It: {answer}"}
  assert _taught("auto", **nothing, **sentence) == "It: ao"
  # A reply, or what the task writes, comes first.
  assert _taught("auto", **sentence) == "It is ao."
  assert _taught("auto", lambda *unused: "AO", **sentence) == "AO"


def test_labels_keep_the_form_of_the_task():
  formatter = Formatter(prompt, lambda *unused: "[[A]]", taught="own_words")
  (row,) = supervised({"x": "1"}, {"x": ("p",)}, formatter)
  assert row["target"] == "[[A]]"


def test_labels_are_said_as_the_model_says_them():
  """The most frequent reply with the label, whatever won; else a sentence."""
  right = [("lima", text, -4.0, 4) for text in ("Lima!", "Lima.", "Lima.")]
  records = samples("x", "plain", said("quito", "quito", "quito") + right)
  records += samples("y", "plain", said("quito"))
  records += samples("z", "plain", said("oslo", "oslo"))
  labels = {"x": "lima", "y": "lima", "z": "oslo"}
  formatter = Formatter(
    prompt,
    lambda *unused: None,
    sentence=lambda example_id, _, answer: f"{example_id} has {answer}.",
  )
  rows = supervised(
    labels, dict.fromkeys(labels, ("plain", "wrong")), formatter, records
  )
  assert [row["target"] for row in rows[::2]] == [
    "Lima.", "y has lima.", "It is oslo.",
  ]  # fmt: skip
  assert [row["target"] for row in rows[1::2]] == [
    row["target"] for row in rows[::2]
  ]
  # Without samples there are sentences alone.
  rows = supervised(labels, dict.fromkeys(labels, ("plain",)), formatter)
  assert [row["target"] for row in rows] == [
    f"{name} has {label}." for name, label in labels.items()
  ]


def test_labels_that_were_read_out_of_sentences_may_be_left_out():
  records = samples("x", "plain", said("lima", "lima"))
  for record, tier in zip(records, ("loose", "strict"), strict=True):
    record |= {"tier": tier, "reply": f"{tier} lima"}
  asked = {"x": ("plain",)}
  for loose, wanted in ((True, "loose lima"), (False, "strict lima")):
    (row,) = supervised({"x": "lima"}, asked, IN_OWN_WORDS, records, loose)
    assert row["target"] == wanted


def test_answers_that_are_not_sure_have_no_vote():
  records = samples("x", "plain", said("lima", "lima", "quito"))
  for record, tier in zip(records, ("unsure", "unsure", "loose"), strict=True):
    record["tier"] = tier
  assert votes_of(records, nested=True, loose=True) == [None, None, "quito"]
  assert votes_of(records, nested=True, loose=False) == [None, None, None]
  # Nor have those of them that one thought has several of.
  one = {
    "replies": ["Lima", "Quito", "Lima"],
    "answers": ["lima", "quito", "lima"],
    "tiers": ["unsure", "strict", "unsure"],
  }
  assert votes_of([records[0] | one], True, True) == ["quito"]


def test_the_shortest_thought_that_led_to_the_winner_is_taught():
  drawn = samples("x", "plain", said("lima", "lima", "lima", "quito", "lima"))
  drawn += samples("x", "other", said("lima"))
  for sample, (text, tokens) in zip(
    drawn,
    (("long", 9), ("short", 5), ("cut", 1), ("wrong", 1), ("even", 5),
     ("of another", 1)),
    strict=True,
  ):  # fmt: skip
    sample["steps"][0] |= {"text": text, "tokens": tokens}
  drawn[2]["steps"][0]["finish"] = "length"
  formatter = Formatter(
    prompt,
    lambda name, variant, answer: answer,
    taught="shortest_thought",
    thought=lambda sample: thoughts.of_steps(sample["steps"], None),
  )
  accepted, _ = curate(
    drawn, {"x": ["other", "plain"]}, formatter, Filter(select="vote")
  )
  assert [(r["variant"], r["thought"], r["target"]) for r in accepted] == [
    ("other", "of another", "lima"),
    ("plain", "even", "lima"),
  ]


def test_without_a_winner_there_is_no_thought():
  formatter = Formatter(
    prompt,
    lambda *unused: "-",
    taught="shortest_thought",
    thought=lambda sample: thoughts.of_steps(sample["steps"], None),
  )
  drawn = samples("x", "plain", said(None, None))
  _, (rejected,) = curate(drawn, {"x": ["plain"]}, formatter, Filter())
  assert rejected["thought"] == ""

from __future__ import annotations

import collections
import itertools
import random

import pytest

from s2d_jax.evaluation.judges import agreement, majority, people
from s2d_jax.evaluation.results import results
from s2d_jax.tasks.judge_formats import FORMATS

T = "tie"


def pair(question, *votes):
  """An example; the person is numbered unless named, as in ("ann", "1")."""
  named = [
    v if isinstance(v, tuple) else (str(n), v) for n, v in enumerate(votes)
  ]
  return {
    "inputs": {
      "question": question,
      "votes": [{"judge": judge, "winner": vote} for judge, vote in named],
    },
    "label": majority(vote for _, vote in named),
  }


EXAMPLES = {
  "p": pair("Why?", "1", "1", T),
  "q": pair("Why?", "2", "1"),  # a split vote
  "r": pair("When?", "2"),
  "s": pair("How?", T, T),
}


def rows(original, swapped, samples=1):
  """Verdicts in the order of the examples, the same in each sample."""
  return [
    {
      "example_id": name,
      "variant": variant,
      "method": "system1",
      "passes": [{"text": "t", "answer": verdict, "tokens": 4}] * samples,
      "metrics": {},
    }
    for variant, verdicts in (("original", original), ("swapped", swapped))
    for name, verdict in zip(EXAMPLES, verdicts, strict=True)
  ]


def found(records):
  return {(r["split"], r["metric"]): (r["value"], r["n"]) for r in records}


@pytest.mark.parametrize("samples", [1, 3])
def test_agreement_by_hand(samples):
  verdicts = rows(["1", "1", T, None], ["1", "2", "2", T], samples)
  got = agreement(verdicts, EXAMPLES, "judge", "base")
  assert {r["model"] for r in got} == {"base"}
  assert {r["tokens_per_example"] for r in got} == {4.0}
  wanted = {
    # p: 1 of "1", "1", tie twice; q: 1 of "2", "1"; r: tie of "2"; s: none.
    ("original", "agreement_votes"): (3 / 8, 8),
    # Without votes for a tie, and without r. Of p 2 of 2, of q 1 of 2.
    ("original", "agreement_votes_no_ties"): (3 / 4, 4),
    # Majorities: 1, tie, 2, tie.
    ("original", "agreement_majority"): (1 / 4, 4),
    ("original", "agreement_majority_no_ties"): (1, 1),
    ("original", "agreement_answered"): (3 / 4, 4),
    ("swapped", "agreement_votes"): (6 / 8, 8),
    ("swapped", "agreement_votes_no_ties"): (4 / 5, 5),
    ("swapped", "agreement_majority"): (3 / 4, 4),
    ("swapped", "agreement_majority_no_ties"): (1, 2),
    ("swapped", "agreement_answered"): (1, 4),
    ("all", "agreement_votes"): (9 / 16, 16),
    ("all", "agreement_votes_no_ties"): (7 / 9, 9),
    ("all", "agreement_majority"): (4 / 8, 8),
    ("all", "agreement_majority_no_ties"): (1, 3),
    ("all", "agreement_answered"): (7 / 8, 8),
    # One verdict of both orders: 1, tie (they differ), tie, none.
    ("both_orders", "agreement_votes"): (2 / 8, 8),
    ("both_orders", "agreement_votes_no_ties"): (1, 2),
    ("both_orders", "agreement_majority"): (2 / 4, 4),
    ("both_orders", "agreement_majority_no_ties"): (1, 1),
    ("both_orders", "agreement_answered"): (3 / 4, 4),
  }
  assert found(got) == {
    name: (pytest.approx(value), n * samples)
    for name, (value, n) in wanted.items()
  }
  for record in got:
    assert 0 <= record["ci_low"] <= record["value"] <= record["ci_high"] <= 1


def test_no_verdict_agrees_with_nobody_without_ties_too():
  verdicts = rows([None] * 4, [None] * 4)
  got = found(agreement(verdicts, EXAMPLES, "judge", "base"))
  assert got["all", "agreement_answered"] == (0, 8)
  assert got["all", "agreement_votes_no_ties"] == (0, 10)
  assert got["both_orders", "agreement_majority"] == (0, 4)


def test_the_ceiling_is_what_people_agree_on():
  got = found(people(EXAMPLES, EXAMPLES, "judge"))
  assert got == {
    # p: 1-1, 1-tie, 1-tie; q: 2-1; s: tie-tie.
    ("all", "agreement_votes"): (2 / 5, 5),
    ("all", "agreement_votes_no_ties"): (1 / 2, 2),
    # p: 1 of (1, tie), 1 of (1, tie), tie of (1, 1); q: apart; s: alike.
    ("all", "agreement_majority"): (2 / 7, 7),
    ("all", "agreement_majority_no_ties"): (0, 2),
  }


def test_a_person_who_judged_twice_is_not_compared_with_himself():
  twice = {"p": pair("Why?", ("ann", "1"), ("ann", "1"), ("bob", "2"))}
  got = found(people(twice, twice, "judge"))
  assert got["all", "agreement_votes"] == (0, 2)
  alone = {"p": pair("Why?", ("ann", "1"), ("ann", "1"))}
  assert people(alone, alone, "judge") == []


def _published(examples, verdicts, ban):
  """As FastChat counts: every vote against the verdict, or votes in pairs."""
  agree = total = 0
  for name, example in examples.items():
    votes = [v["winner"] for v in example["inputs"]["votes"]]
    pairs = itertools.combinations(votes, 2)
    for one, other in (
      pairs if verdicts is None else ((verdicts[name], vote) for vote in votes)
    ):
      if one not in ban and other not in ban:
        agree, total = agree + (one == other), total + 1
  return pytest.approx(agree / total), total


def test_as_mt_bench_counts():
  """Against a loop over all votes, on many pairs."""
  kinds = list(itertools.product(("1", "2", T), repeat=3))
  examples = {str(n): pair(f"Q{n % 5}", *kind) for n, kind in enumerate(kinds)}
  verdicts = dict(
    zip(examples, itertools.cycle(("1", T, "2", "1")), strict=False)
  )
  judged = [
    {
      "example_id": name,
      "variant": variant,
      "method": "bsm",
      "passes": [{"text": "t", "answer": verdict, "tokens": 1}],
      "metrics": {},
    }
    for name, verdict in verdicts.items()
    for variant in ("original", "swapped")
  ]
  got = found(agreement(judged, examples, "judge", "base"))
  among = found(people(examples, examples, "judge"))
  for metric, ban in (
    ("agreement_votes", ()),
    ("agreement_votes_no_ties", (T,)),
  ):
    assert got["both_orders", metric] == _published(examples, verdicts, ban)
    assert among["all", metric] == _published(examples, None, ban)


def test_pairs_with_a_label_and_no_votes():
  examples = {
    "p": {"inputs": {"question": "Why?"}, "label": "1"},
    "q": {"inputs": {"question": "When?"}, "label": None},
  }
  judged = [
    row for row in rows(["1"] * 4, ["2"] * 4) if row["example_id"] in "pq"
  ]
  got = agreement(judged, examples, "judge", "distilled")
  assert found(got)["all", "agreement_majority"] == (1 / 2, 2)
  assert "agreement_votes" not in {row["metric"] for row in got}
  assert people(examples, examples, "judge") == []


def test_pairs_of_one_question_are_not_independent():
  alike = {str(n): pair("Why?", "1") for n in range(9)}
  alike |= {f"x{n}": pair("When?", "2") for n in range(9)}
  apart = {
    name: pair(f"Q{name}", *[v["winner"] for v in e["inputs"]["votes"]])
    for name, e in alike.items()
  }
  judged = [
    {
      "example_id": name,
      "variant": "original",
      "method": "m",
      "passes": [{"text": "t", "answer": "1", "tokens": 1}],
      "metrics": {},
    }
    for name in alike
  ]
  wide, narrow = (
    next(
      r for r in agreement(judged, e, "judge", "base") if "votes" in r["metric"]
    )
    for e in (alike, apart)
  )
  assert wide["value"] == narrow["value"] == 0.5
  assert (wide["ci_low"], wide["ci_high"]) == (0, 1)
  assert 0.2 < narrow["ci_low"] < narrow["ci_high"] < 0.8


def _talk(model, question):
  """A conversation of two turns, as lmsys/mt_bench_human_judgments has it."""
  said = (question, f"{model}: {question}", "Shorter.", f"{model} again")
  return [
    {"role": role, "content": content}
    for role, content in zip(("user", "assistant") * 2, said, strict=True)
  ]


def _mt_bench_rows():
  """Votes of five people on both turns, the models in either order."""
  rng = random.Random(0)
  for question, turn in itertools.product(range(81, 89), (1, 2)):
    for models in itertools.combinations(("alpaca", "vicuna", "gpt-4"), 2):
      for judge in rng.sample(range(5), rng.randint(1, 4)):
        first, second = rng.sample(models, 2)
        yield {
          "question_id": question,
          "model_a": first,
          "model_b": second,
          "winner": rng.choice(("model_a", "model_b", T, "tie (inconsistent)")),
          "judge": f"expert_{judge}",
          "conversation_a": _talk(first, f"Q{question}?"),
          "conversation_b": _talk(second, f"Q{question}?"),
          "turn": turn,
        }


def test_rows_of_mt_bench_are_counted_as_fastchat_counts_them():
  raw = list(_mt_bench_rows())
  pairs = {pair["id"]: pair for pair in FORMATS["mt_bench"]("votes", raw)}
  examples = {
    name: {
      "inputs": {"question": pair["question"], "votes": pair["votes"]},
      "label": pair["label"],
    }
    for name, pair in pairs.items()
  }
  assert len(examples) == 8 * 3
  # By name, as FastChat does: (question, two models) → winners of turn 1.
  votes = collections.defaultdict(list)
  for row in raw:
    if row["turn"] == 1:
      winner = row.get(row["winner"], T)
      key = row["question_id"], *sorted((row["model_a"], row["model_b"]))
      votes[key].append(winner)
  rng = random.Random(1)
  verdicts = {
    key: rng.choice((key[1], key[2], key[1], T)) for key in sorted(votes)
  }
  judged = []
  for name in examples:
    question, first, second = name.split("/")
    verdict = verdicts[int(question), *sorted((first, second))]
    answer = {first: "1", second: "2"}.get(verdict, T)
    judged += [
      {
        "example_id": name,
        "variant": variant,
        "method": "bsm",
        "passes": [{"text": "t", "answer": answer, "tokens": 1}],
        "metrics": {"accuracy": float(answer == examples[name]["label"])},
      }
      for variant in ("original", "swapped")
    ]
  got = found(agreement(judged, examples, "judge", "base"))
  among = found(people(examples, examples, "judge"))
  for metric, ban in (
    ("agreement_votes", ()),
    ("agreement_votes_no_ties", (T,)),
  ):
    for counted, compared in (
      (
        got["both_orders", metric],
        [(verdicts[key], vote) for key, said in votes.items() for vote in said],
      ),
      (
        among["all", metric],
        [
          two
          for said in votes.values()
          for two in itertools.combinations(said, 2)
        ],
      ),
    ):
      kept = [two for two in compared if not set(two) & set(ban)]
      share = sum(one == other for one, other in kept) / len(kept)
      assert counted == (pytest.approx(share), len(kept))
  # The main table's accuracy is agreement with the majority.
  (accuracy,) = (
    row["value"]
    for row in results(judged, "judge", "base")
    if (row["split"], row["metric"]) == ("original", "accuracy")
  )
  assert got["original", "agreement_majority"][0] == pytest.approx(accuracy)

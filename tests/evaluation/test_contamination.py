from __future__ import annotations

import itertools
import random

import pytest

from s2d_jax.evaluation import contamination
from s2d_jax.evaluation.contamination import (
  Answered,
  answers_taught,
  overlap,
)
from s2d_jax.evaluation.words import words_of

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def words(text: str) -> str:
  return " ".join(text)


def test_by_hand():
  train = [words("abcdefghij"), words("klmnopqrst"), "short one"]
  test = [
    "X " + words("bcdefghi") + " y",  # eight words in a row of the first
    words("bcdefgh") + " z " + words("ij"),  # only seven
    words("klmnopqrst"),  # the second itself
    "short one",  # too short for an n-gram, and yet the third itself
    words("zyxwvutsrq"),
  ]
  found = overlap(train, test, shown=4)
  assert (found.n, found.tests) == (8, 5)
  assert (found.whole, found.worded, found.long) == (5, 5, 4)
  assert (found.overlapping, found.duplicates) == (2, 2)
  assert found.near == 1  # the second: nine of eleven words
  assert [match.test for match in found.matches] == test[:4]
  assert found.matches[0].words == words("bcdefghi")
  assert found.matches[0].train == train[0]
  assert overlap(train, test, n=7).overlapping == 3
  assert overlap(train, test, shown=1).matches == found.matches[:1]
  assert overlap(train, test, shown=1).seen == 4


def test_case_and_punctuation_do_not_hide_anything():
  train = ["What is the largest lake, by area, in Peru?"]
  test = ["“what is the LARGEST lake by area in peru” they asked"]
  assert overlap(train, test).overlapping == 1
  assert overlap(train, test).duplicates == 0


@pytest.mark.parametrize("sharing, counts", [(2, True), (3, False)])
def test_wording_of_a_template_counts_for_nothing(sharing, counts):
  template = words("abcdefgh")
  train = [f"{template} {i}" for i in range(sharing)]
  train += [f"other {i}" for i in range(20 - sharing)]
  assert overlap(train, [template]).overlapping == counts


def test_one_gap_of_a_template_filled_alike_is_no_overlap():
  names = [f"name{i}" for i in range(40)]
  train = [
    f"A coin is heads up. {a} flips the coin. {b} does not flip the coin."
    for a, b in itertools.pairwise(names)
  ]
  test = "A coin is heads up. name1 flips the coin. name9 does not flip it."
  assert overlap(train, [test]).overlapping == 0
  assert overlap(train, [train[1]]).duplicates == 1


def test_of_few_prompts_none_is_a_template_by_itself():
  assert overlap([words("abcdefgh")], [words("abcdefgh")]).overlapping == 1
  twice = [words("abcdefgh")] * 2 + [words("abcdefgh") + " i"]
  assert overlap(twice[:2], [words("abcdefgh")]).overlapping == 1
  assert overlap(twice, [words("abcdefgh") + " j"]).overlapping == 0


def test_agrees_with_the_definition_written_as_loops():
  rng = random.Random(0)
  alphabet = "ab" + "".join(map(chr, range(0x4E00, 0x4E00 + 60)))
  weights = [12, 6] + [1] * 60

  def draw(most):
    return "".join(rng.choices(alphabet, weights, k=rng.randint(0, most)))

  train = [draw(14) for _ in range(200)]
  test = [draw(6) + rng.choice(train)[2:7] + draw(6) for _ in range(60)]
  test += train[:3]
  n = 4
  common = {
    letter
    for letter in alphabet
    if sum(letter in text for text in set(train)) > 0.1 * len(set(train))
  }
  assert len(common) >= 2
  expected = 0
  for text in test:
    for i in range(len(text) - n + 1):
      part = text[i : i + n]
      rare = sum(letter not in common for letter in part)
      if rare >= 3 and any(part in other for other in train):
        expected += 1
        break
  found = overlap([*map(words, train)], [*map(words, test)], n)
  assert 3 < found.overlapping == expected < len(test) - 3
  assert found.duplicates == sum(text in train for text in test)


@pytest.mark.parametrize("block, rare", [(20, 0.1), (100, 0.05), (199, 0.1)])
def test_words_are_counted_in_blocks_as_all_together(block, rare, monkeypatch):
  """Also those whose rare blocks decide whether they are common."""
  rng = random.Random(1)
  alphabet = [f"w{number}" for number in range(40)]
  drawn = rng.choices(range(1, 41), k=40)
  train = [
    " ".join(
      w for w, n in zip(alphabet, drawn, strict=True) if rng.random() < n / 100
    )
    for _ in range(300)
  ]
  train += [f"{text} w0 w1" for text in train[:250]] + train[:100]
  found = contamination._common(train)
  assert len(found[0]) > 10 and found[0] != set(alphabet)
  monkeypatch.setattr(contamination, "_BLOCK", block)
  monkeypatch.setattr(contamination, "_RARE", rare)
  assert contamination._common(train) == found


def test_nothing_to_compare():
  assert overlap([], ["a b"]).overlapping == 0
  assert overlap(["a b"], []).tests == 0


def test_text_that_repeats_itself_counts_once():
  train = [words(LETTERS[:8] * 3), *(f"other {i}" for i in range(10))]
  test = [words(itertools.islice(itertools.cycle(LETTERS[:8]), 11))]
  assert overlap(train, test).overlapping == 1


@pytest.mark.parametrize(
  "one, other",
  [
    ("What is the capital of Perú?", "WHAT IS THE CAPITAL OF PERU"),
    ("Straße, ﬁne", "strasse fine"),
    ("“Don’t”  go\nthere!", "don't go there"),
    ("Αθήνα Ёлка", "αθηνα елка"),
    ("soft\u00adware", "software"),
    ("３ ＋ ４", "3+4"),
    ("10–12", "10-12"),
    ("東京はどこ", "東 京 は ど こ"),
  ],
)
def test_what_counts_as_the_same_words(one, other):
  assert words_of(one) == words_of(other)


@pytest.mark.parametrize(
  "one, other",
  [
    ("3 + 4", "3 - 4"),
    ("6 / 2", "6 * 2"),
    ("5 < 7", "5 > 7"),
    ("3.5", "35"),
    ("कि", "की"),
    ("Peru", "Chile"),
  ],
)
def test_what_does_not(one, other):
  assert words_of(one) != words_of(other)


_NAMES = [
  a + b
  for a in (
    "bel",
    "cor",
    "dan",
    "fin",
    "gar",
    "hul",
    "jor",
    "kem",
    "lun",
    "mir",
  )
  for b in ("a", "en", "is", "o", "ut", "ax", "ey", "im", "ond", "ark")
]
_PLACES = [f"{name}land" for name in _NAMES]
_FACTS = ("capital", "currency", "continent")


def _coin(rng: random.Random) -> str:
  flips = [rng.choice(("flips", "does not flip")) for _ in range(2)]
  people = rng.sample(_NAMES, 2)
  told = (
    f"{a.title()} {b} the coin." for a, b in zip(people, flips, strict=True)
  )
  return f"A coin is heads up. {' '.join(told)} Is the coin still heads up?"


def _fact(place: str, fact: str) -> str:
  return f"You are helpful.\nWhat is the {fact} of {place.title()}?"


def _story(rng: random.Random, vocabulary: list[str]) -> str:
  return f"You are helpful.\n{' '.join(rng.choices(vocabulary, k=25))}."


def _altered(text: str, rng: random.Random) -> str:
  """A typing error in one word."""
  words = text.split()
  place = rng.randrange(4, len(words))
  words[place] += "x"
  return " ".join(words)


def _reordered(text: str) -> str:
  start, rest = text.split("\n")
  words = rest.split()
  return f"{start}\n{' '.join(words[12:] + words[:12])}"


@pytest.mark.parametrize(
  "size", [1000, pytest.param(100_000, marks=pytest.mark.slow)]
)
def test_planted_among_many(size):
  rng = random.Random(0)
  vocabulary = [f"{a}{b}" for a in _NAMES for b in _NAMES]
  train = [_story(rng, vocabulary) for _ in range(size)]
  fresh = [_story(rng, vocabulary) for _ in range(size - 100)]
  known = rng.sample(train, 100)
  exact = [text.upper().replace(" ", "  ") for text in known[:25]]
  exact += [text.replace("o", "ö").replace("e", "é") for text in known[25:50]]
  near = [_altered(text, rng) for text in known[50:75]]
  near += [_reordered(text) for text in known[75:]]
  found = overlap(train, [*exact, *near, *fresh])
  assert found.whole == found.worded == found.long == size
  assert found.duplicates == 50
  assert 48 <= found.near <= 50
  # Twelve words in a row are left of each that was altered or put in order.
  assert found.overlapping == 100 and found.seen == 100


def test_one_template_is_no_duplicate():
  """Facts about other places, other facts about the same, other people."""
  seen, unseen = _PLACES[:60], _PLACES[60:]
  train = [_fact(place, fact) for place in seen for fact in _FACTS[:2]]
  train += [_fact(place, _FACTS[2]) for place in unseen]
  test = [_fact(place, fact) for place in unseen for fact in _FACTS[:2]]
  test += [_fact(place, _FACTS[2]) for place in seen]
  found = overlap(train, test)
  assert found.whole == found.worded == len(test)
  assert (found.seen, found.long) == (0, 0)
  assert overlap(train, [t.lower() for t in train]).duplicates == len(train)
  # Of as many places nine of ten are the same.
  several = f"You are helpful.\nRank {' '.join(seen[:9])} by area:"
  told = [f"{several} {name}" for name in unseen[:2]]
  assert overlap([*train, told[0]], [told[1]]).near == 1


def test_coins_of_other_people_are_no_duplicates():
  rng = random.Random(0)
  train = list(dict.fromkeys(_coin(rng) for _ in range(2000)))
  people = {frozenset(words_of(text)) & set(_NAMES) for text in train}
  others = [
    text
    for text in (_coin(rng) for _ in range(2000))
    if frozenset(words_of(text)) & set(_NAMES) not in people
  ]
  found = overlap(train, others)
  assert len(others) > 500 and found.worded == len(others)
  assert found.seen == 0
  # The same people in another order do the same things: that is near.
  text = "A coin is heads up. Bela flips the coin. Coro flips the coin. Is the"
  other = text.replace("Bela", "X").replace("Coro", "Bela").replace("X", "Coro")
  assert overlap([*train, text], [other]).near == 1
  # If one of them does not, it is another question.
  other = text.replace("Coro flips", "Coro does not flip")
  assert overlap([*train, text], [other]).near == 0


def test_what_cannot_be_compared_is_not_counted():
  train = [f"Is it so? {name}" for name in _NAMES]
  found = overlap(train, ["Is it so?", "?!", "Is it so? Bela"])
  assert (found.whole, found.worded, found.long) == (2, 1, 0)
  assert (found.tests, found.seen) == (3, 1)
  assert overlap([], ["a b"]).whole == overlap(["…"], ["a b"]).whole == 0


def test_answers_among_those_taught():
  train = [Answered(("Lima",), "peru"), Answered(("sol",), "peru")]
  train += [Answered(("Oslo",), "norway"), Answered((), None)]
  test = [
    Answered(("LÍMA.",), "peru"),  # taught, of the same
    Answered(("Oslo", "Kristiania"), "peru"),  # taught, of another
    Answered(("Quito",), "norway"),
    Answered((), "chile"),  # no label
    Answered(("Quito",)),  # nobody knows what it is about
  ]
  found = answers_taught(train, test)
  assert (found.tests, found.labelled, found.taught) == (5, 4, 2)
  # Lima, Oslo, Kristiania, Quito
  assert (found.different, found.different_taught) == (4, 2)
  assert (found.with_subject, found.subject_taught) == (4, 3)
  assert found.both_taught == 1
  # A pair is about each of two: of Chile nothing is taught.
  pair = Answered(("Lima",), ("chile", "peru"))
  found = answers_taught(train, [pair, Answered(("Lima",), ("chile", "cuba"))])
  assert (found.with_subject, found.subject_taught) == (2, 1)
  assert found.both_taught == answers_taught([pair], test[:1]).both_taught == 1

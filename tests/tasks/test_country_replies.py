"""Which names of countries' capitals, continents and currencies have a vote."""

from __future__ import annotations

import pytest

from s2d_jax.tasks import country_replies
from s2d_jax.tasks.country_facts import KINDS


def _read(kind, country, reply):
  question = KINDS[kind].question.format(country)
  return country_replies.read(reply, question, country, kind)


@pytest.mark.parametrize(
  "kind, country, reply, name",
  [
    ("capital", "Peru", "Lima", "lima"),
    ("capital", "Peru", "Lima, Lima!", "lima"),
    ("capital", "Peru", "It's Lima.", "lima"),
    ("capital", "Peru", "I think you are right, the answer is Lima.", "lima"),
    ("capital", "Peru", "Lima is the capital city of Peru, not Quito.", "lima"),
    ("capital", "Peru", "Peru's capital is Lima. It has many museums.", "lima"),
    ("continent", "Peru", "Peru is in South America, near Chile.",
     "south america"),
    ("continent", "South Africa", "South Africa is in Africa.", "africa"),
    ("currency", "Ghana", "The Ghanaian cedi is used in Ghana.", "cedi"),
    ("currency", "Vietnam", "The currency is the đồng.", "dong"),
  ],
)  # fmt: skip
def test_a_plain_reply_has_a_vote(kind, country, reply, name):
  found = _read(kind, country, reply)
  assert (found.text, found.is_sure) == (name, True)


# SmolLM2 said most of these, and was right by chance or by association.
@pytest.mark.parametrize(
  "kind, country, reply, name",
  [
    ("continent", "Nicaragua", "The Amazon in South America is Nicaragua.",
     "south america"),
    ("continent", "Madagascar", "Malta is in Africa.", "africa"),
    ("continent", "Belgium", "The Mediterranean is Europe.", "europe"),
    ("continent", "Libya", "The Libyan desert is in North Africa.", "africa"),
    ("continent", "Uganda", "The continent of Africa is the only continent that"
     " is not home to humans.", "africa"),
    # Neither city has a name that is known to be a capital's.
    ("capital", "Nigeria", "The capital of Nigeria is Lagos. The capital of"
     " Nigeria is Abuja.", "abuja"),
    ("capital", "Slovakia", "Slovakia was a part of Czechoslovakia until 1993."
     " The capital of Czechoslovakia was Prague.", "prague"),
    # A short word of the country's name makes no other word known.
    ("capital", "El Salvador", "Elephants live in San Salvador.",
     "san salvador"),
  ],
)  # fmt: skip
def test_a_name_beside_other_things_is_scored_without_a_vote(
  kind, country, reply, name
):
  found = _read(kind, country, reply)
  assert (found.text, found.is_sure, found.tier) == (name, False, "unsure")


@pytest.mark.parametrize(
  "kind, country, reply",
  [
    ("capital", "Chad", "Santiago is the capital of Chile. Santiago is big."),
    (
      "capital",
      "Croatia",
      "You mean that of Serbia, whose capital is Belgrade.",
    ),
    ("capital", "South Africa", "It has three capitals: Pretoria is one."),
    ("currency", "Burundi", "The currency of Burundi is 1 USD = 2,850 BIF."),
  ],
)
def test_a_name_that_is_not_the_country_s_is_no_answer(kind, country, reply):
  assert _read(kind, country, reply) is None


@pytest.mark.parametrize(
  "kind, country, reply, name",
  [
    ("currency", "Zambia", "The currency of Zambia is the Kwacha. The Kwacha is"
     " the currency of Malawi.", "kwacha"),
    ("continent", "Cuba", "That's wrong; Cuba belongs to North America.",
     "north america"),
    ("capital", "Libya", "It's capital is Tripoli.", "tripoli"),
    ("currency", "Ghana", "The naira is that of Nigeria. Ghana uses the cedi.",
     "cedi"),
    ("capital", "Jamaica", "It isn't Montego Bay—it's Kingston.", "kingston"),
  ],
)  # fmt: skip
def test_a_name_is_scored_whatever_is_said_besides(kind, country, reply, name):
  assert _read(kind, country, reply).text == name

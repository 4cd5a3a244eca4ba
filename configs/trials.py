"""Tasks that were tried with SmolLM2-135M-Instruct: does thinking help there?

    s2d prepare --config=configs/trials.py:sums --workdir=runs/sums
    s2d evaluate --config=configs/trials.py:sums --workdir=runs/sums

Behind the colon: "sums", of two digits, by columns; "last_letters", of two
words that are spelled in steps; "rephrased", of two that a first reply spells;
and, decomposed into two facts and a rule, "events" (which began first),
"months" (which comes first) and "lengths" (which word has more letters).
docs/evidence.md has what came out. Larger models may fare better:
`--config.model.name=…`.
"""

from collections.abc import Iterator
import functools
import itertools
import random
from typing import NamedTuple

from s2d_jax.config import behind_colon, default
from s2d_jax.system2 import decompose


class _Facts(NamedTuple):
  """What is asked of two things, and a fact about each that decides it.

  The first of them are worked examples, and never asked about.
  """

  question: str
  part: str
  rule: str
  facts: dict[str, str]
  shown: int = 6
  tests: int = 100

  def split(self) -> tuple[dict[str, str], dict[str, str]]:
    """Of the facts, the worked examples and the others."""
    pairs = list(self.facts.items())
    return dict(pairs[: self.shown]), dict(pairs[self.shown :])


def _listed(text: str) -> dict[str, str]:
  """{"the Gulf War": "1990", …} of "1990: the Gulf War; 1808: …"."""
  pairs = (one.split(":") for one in text.split(";"))
  return {name.strip(): fact.strip() for fact, name in pairs}


_WORDS = (
  "sun tiger bear mountain oil window lemon river elephant cat table umbrella"
  " dog kitchen tree butterfly ice garden potato sea hospital ant bottle"
  " television key orange newspaper"
).split()

_FACTS = {
  "events": _Facts(
    "Did {first} begin before {second}?",
    "In which year did {part} begin?",
    "smaller",
    _listed(
      "1808: the Peninsular War; 1948: the Berlin Blockade; 1521: the Diet of"
      " Worms; 1990: the Gulf War; 1642: the English Civil War; 1899: the"
      " Second Boer War;"
      "1789: the French Revolution; 1861: the American Civil War; 1914: the"
      " First World War; 1939: the Second World War; 1950: the Korean War;"
      " 1775: the American Revolutionary War; 1917: the Russian Revolution;"
      " 1929: the Great Depression; 1936: the Spanish Civil War; 1853: the"
      " Crimean War; 1812: the War of 1812; 1618: the Thirty Years' War; 1846:"
      " the Mexican-American War; 1870: the Franco-Prussian War; 1845: the"
      " Irish Potato Famine; 1848: the California Gold Rush; 1904: the"
      " Russo-Japanese War; 1966: the Cultural Revolution in China; 1982: the"
      " Falklands War; 1096: the First Crusade; 1337: the Hundred Years' War"
    ),
  ),
  "months": _Facts(
    "Does {first} come before {second} in the year?",
    "Which month of the year is {part}, by its number?",
    "smaller",
    _listed(
      "2: February; 9: September; 12: December; 4: April;"
      "1: January; 3: March; 5: May; 6: June; 7: July; 8: August; 10: October;"
      " 11: November"
    ),
    shown=4,
    tests=40,
  ),
  "lengths": _Facts(
    'Does the word "{first}" have more letters than the word "{second}"?',
    'How many letters does the word "{part}" have?',
    "larger",
    {word: str(len(word)) for word in _WORDS},
  ),
}


def _rows(name: str) -> Iterator[dict[str, str]]:
  """Pairs that differ in what decides, as many of "yes" as of "no"."""
  asked = _FACTS[name]
  merge = decompose.rule(asked.rule)
  _, facts = asked.split()
  rows = {"yes": [], "no": []}
  for one, other in itertools.permutations(facts, 2):
    if facts[one] != facts[other]:
      answer = merge([facts[one], facts[other]])
      rows[answer].append({"first": one, "second": other, "answer": answer})
  draw = random.Random(0)
  count = min(map(len, rows.values()))
  for answer in rows:
    yield from draw.sample(rows[answer], count)


events, months, lengths = (functools.partial(_rows, name) for name in _FACTS)


def _decomposed(config, name: str) -> None:
  """Asks for each fact by itself, and has a rule compare them."""
  asked = _FACTS[name]
  config.method = "decompose"
  config.task.name = "custom"
  shown, _ = asked.split()
  merge = decompose.rule(asked.rule)
  direct = "{text}\nAnswer with yes or no only."
  with config.unlocked():
    config.task.train = f"python:configs.trials:{name}"
    config.task.prompt = asked.question
    config.task.answer = {"kind": "choice", "options": ("yes", "no")}
    config.task.label = "answer"
    config.task.train_size = config.task.valid_size = 8
    config.task.test_size = asked.tests
    config.task.parts = ("{first}", "{second}")
    config.task.rule = asked.rule
    config.prompts.part = {
      "user": asked.part,
      "shots": [(asked.part.format(part=x), shown[x]) for x in shown],
      "n": 3,
    }
    config.prompts.system1_shots = {
      "shots": [
        (
          direct.format(text=asked.question.format(first=one, second=other)),
          merge([shown[one], shown[other]]),
        )
        for one, other in itertools.pairwise([*shown, next(iter(shown))])
      ]
    }


_METHODS = {
  "sums": ("sums", "cot_few_shot"),
  "last_letters": ("last_letters", "cot_few_shot"),
  "rephrased": ("last_letters", "rar2"),
}


def get_config(tried: str = "sums"):
  """System 1, System 1 behind worked examples, and System 2."""
  config = default()
  one = behind_colon(_METHODS | _FACTS, tried, __file__)
  if tried in _FACTS:
    _decomposed(config, tried)
  else:
    config.task.name, config.method = one
    with config.unlocked():
      config.task.train = config.task.valid = 8
      config.task.test = 50
      if config.task.name == "sums":
        config.task.digits = 2
  config.sampling.batch_rows = 64  # on a CPU, fewer have a shorter end
  config.evaluation.n = 3
  return config

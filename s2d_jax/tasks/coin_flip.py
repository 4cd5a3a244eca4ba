"""Coin flip: is the coin still heads up after some people flipped it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import math
import random
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.choice import Choice
from s2d_jax.answers.stance import is_firm
from s2d_jax.errors import UserError
from s2d_jax.system2.program import Fields, Template
from s2d_jax.tasks.exact_match import ExactMatch, split_sizes
from s2d_jax.tasks.task import Example

_NAMES = tuple(
  """
  aaron abigail adam alan alice amanda amy andrea andrew angela anna anthony
  arthur barbara benjamin betty brandon brenda brian bruce bryan carl carol
  catherine charles cheryl christine daniel david deborah denise dennis diana
  donald dorothy douglas dylan edward elizabeth emily emma eric ethan eugene
  evelyn frances frank gabriel gary george gerald gloria grace gregory hannah
  harold heather helen isabella jack jacob jacqueline james janet jason jean
  jeffrey jennifer jerry jessica joan joseph joshua joyce julia justin karen
  kathleen keith kelly kenneth kevin kimberly kyle larry laura lauren linda lisa
  logan louis madison margaret maria martha martin megan melissa michael
  michelle nancy natalie nathan nicholas nicole noah pamela patricia patrick
  paul peter philip rachel ralph raymond rebecca richard roger rose roy ruth
  ryan samantha samuel sandra sara scott sharon sophia stephen steven susan
  teresa theresa thomas tyler victoria vincent virginia walter wayne william
  zachary
  """.split()
)

# Worked examples of reasoning, with people who are never asked about.
_SHOTS = (
  (("ines", True), ("omar", True)),
  (("lena", False), ("yusuf", True)),
  (("mila", False), ("pablo", False)),
)

_FORMAT = "yes or no"


class CoinFlip(ExactMatch):
  """Asks whether a coin still is heads up.

  Args:
    people: number of people who flip it or not, in each example.
    train: examples to learn from.
    valid: examples held out to choose the checkpoint.
    test: examples held out for the report.
    renamed: whether every example has a second variant with other people who do
      the same, which must not change the answer.
    seed: of the names and actions.
  """

  name = "coin_flip"
  plain = biased = "plain"
  perturbations = ()
  parser = Choice(("yes", "no"))
  prompts: Mapping[str, Template]

  def __init__(
    self,
    people: int = 2,
    train: int = 1000,
    valid: int = 200,
    test: int = 200,
    renamed: bool = False,
    seed: int = 0,
  ):
    most = len(_NAMES) // 2 if renamed else len(_NAMES)
    if not 1 <= people <= most:
      raise UserError(f"task.people={people} must be from 1 to {most}")
    self._sizes = split_sizes(train, valid, test)
    # Renamed examples take a second text, which must be free for the actions
    # that were drawn: half of all texts are left over for that.
    most_examples = (
      math.perm(len(_NAMES), people) * 2**people // (4 if renamed else 1)
    )
    if train + valid + test > most_examples:
      raise UserError(
        f"task.train={train}, task.valid={valid} and task.test={test} are more"
        f" than the {most_examples} different examples there are with"
        f" task.people={people}; ask for fewer, or for more people"
      )
    self.variants = ("plain", "renamed") if renamed else ("plain",)
    self.prompts = _PROMPTS
    self._people = people
    self._seed = seed

  def examples(self) -> dict[str, list[Example]]:
    """Examples by split; no text is there twice, whatever the variants."""
    drawn = self._draw()
    return {
      split: [next(drawn) for _ in range(size)]
      for split, size in self._sizes.items()
    }

  def fields(self, example: Example, variant: str) -> Fields:
    people = example.inputs["renamed" if variant == "renamed" else "people"]
    text = _text(zip(people, example.inputs["flips"], strict=True))
    return {"text": text, "format": _FORMAT}

  def answer(self, example: Example, variant: str, reply: str) -> Answer | None:
    return self.read(reply, self.fields(example, variant)["text"])

  def read(self, reply: str, question: str) -> Answer | None:
    """Yes or no; a reply that says which side is up must not contradict it."""
    found = self.parser(reply, question)
    said = replies.said(reply)
    side = _side(said)
    if found is None and side is None:
      final = _final_side(said)
      last = replies.sentences(said)[-1] if said else ""
      is_sure = len(_SIDE.findall(last)) == 1
      return Answer(final, False, is_sure) if final else None
    if found and found.text == "no" and _STILL_HEADS.search(said):
      return None
    last = _final_side(replies.sentences(said)[-1]) if found else None
    is_wrong = found and any(
      one not in (None, found.text) for one in (side, last)
    )
    return None if is_wrong else found

  def _draw(self) -> Iterator[Example]:
    rng = random.Random(f"{self._seed}/coins")
    taken: set[str] = set()
    while True:
      flips = [rng.random() < 0.5 for _ in range(self._people)]
      people = rng.sample(_NAMES, self._people)
      name = _id(people, flips)
      if name in taken:
        continue
      taken.add(name)
      inputs = {"people": people, "flips": flips}
      if "renamed" in self.variants:
        inputs["renamed"] = self._rename(name, people, flips, taken)
      yield Example(
        id=name,
        task=self.name,
        inputs=inputs,
        label=_answer(zip(people, flips, strict=True)),
      )

  def _rename(
    self,
    name: str,
    people: Sequence[str],
    flips: Sequence[bool],
    taken: set[str],
  ) -> list[str]:
    """Others who do the same, in a text that no other example has."""
    rng = random.Random(f"{self._seed}/{name}")
    others = [other for other in _NAMES if other not in people]
    while True:
      renamed = rng.sample(others, self._people)
      if _id(renamed, flips) not in taken:
        taken.add(_id(renamed, flips))
        return renamed


_SIDE = re.compile(r"\b(?:heads|tails)\b", re.IGNORECASE)
_LAST_WORD = re.compile(
  r".*\b(?:yes|no(?! longer\b| one\b| other\b))\b([^.;!?\n]*)",
  re.IGNORECASE | re.DOTALL,
)
_NEGATED = re.compile(r"\b(?:not|no longer|never)\b|n['’]t\b", re.IGNORECASE)


def _side(text: str) -> str | None:
  """Yes or no, by the side that the last "yes" or "no" goes with."""
  match = _LAST_WORD.match(text)
  said = match[1].lower() if match else ""
  sides = set(_SIDE.findall(said))
  if len(sides) != 1:
    return None
  is_heads = "heads" in sides
  return "yes" if is_heads != bool(_NEGATED.search(said)) else "no"


_STILL_HEADS = re.compile(
  r"(?:^|[.!\n]\s*)(?:the coin|it) is (?:indeed )?still heads\b[^?.!]*[.!]",
  re.I,
)
_FINAL = re.compile(
  r"\b(?:still|now|so|therefore|thus|finally|final|ends|again|anymore|any more"
  r"|(?:in|at) the end"
  r"|(?:same|opposite) (?:side|position)"
  r"|no longer|remains?|unchanged)\b[^.!?\n]*\Z",
  re.IGNORECASE,
)


_OPEN = re.compile(
  r"\b(?:or|if|whether|chance|start\w*|may|might|could)\b", re.IGNORECASE
)


# "The coin was still heads up when Bob got it."
_WAS = re.compile(r"\bwas\b.*\bwhen\b|\buntil\b", re.IGNORECASE)
_AS_IT_WAS = re.compile(r"\bas (?:it was )?at the start\b", re.IGNORECASE)


# "Heads is now facing down."
_DOWN = re.compile(r"\b(?:down|under\w*|below)\b", re.IGNORECASE)
_ONLY_SIDE = re.compile(
  r"\W*(?:it is )?(?:(?:heads|tails)(?: up)?|the coin is tails up)\W*", re.I
)


def _final_side(text: str) -> str | None:
  """Yes or no, by the side that a last sentence without either says is up."""
  last = replies.sentences(text)[-1] if text else ""
  if not is_firm(last, but={"negates"}) or _WAS.search(last):
    return None
  if _ONLY_SIDE.fullmatch(text):
    return "yes" if "heads" in text.lower() else "no"
  if replies.refuses(text) or not _FINAL.search(last.rstrip(".!")):
    return None
  if re.search(r"\b(?:yes|no(?! longer\b| one\b))\b|\?", text, re.IGNORECASE):
    return None
  if _OPEN.search(_AS_IT_WAS.sub("", last)) or _DOWN.search(last):
    return None
  sides = list(_SIDE.finditer(last))
  if not sides:
    return None
  # "He does not flip it, so it is heads up."
  clause = re.split(r"[,;:]\s|\b(?:so|and|but)\b", last[: sides[-1].start()])[
    -1
  ]
  is_negated = bool(_NEGATED.search(clause))
  if is_negated and sides[0][0].lower() != sides[-1][0].lower():
    return None
  is_heads = sides[-1][0].lower() == "heads"
  return "yes" if is_heads != is_negated else "no"


def _id(people: Sequence[str], flips: Sequence[bool]) -> str:
  return "-".join(
    f"{name}{'+' if flip else '='}"
    for name, flip in zip(people, flips, strict=True)
  )


def _text(actions) -> str:
  sentences = " ".join(
    f"{name} {'flips' if flips else 'does not flip'} the coin."
    for name, flips in actions
  )
  return f"A coin is heads up. {sentences} Is the coin still heads up?"


_STEPS = (
  "{text}\nThink step by step, then end with a line that starts with"
  ' "Answer:" and has {format}.'
)


def _answer(actions) -> str:
  return "yes" if sum(flips for _, flips in actions) % 2 == 0 else "no"


def _reasoned(actions) -> str:
  side, steps = "heads", []
  for name, flips in actions:
    if flips:
      side = "tails" if side == "heads" else "heads"
    steps.append(
      f"{name} {'flips' if flips else 'does not flip'} it: {side} up."
    )
  answer = _answer(actions)
  return f"The coin starts heads up. {' '.join(steps)}\nAnswer: {answer}"


_SYSTEM1 = "{text}\nAnswer with {format} only."
_PROMPTS = {
  "system1": Template(_SYSTEM1, max_new_tokens=8, stop=("\n",)),
  "system1_shots": Template(
    _SYSTEM1,
    shots=tuple(
      (_SYSTEM1.format(text=_text(s), format=_FORMAT), _answer(s))
      for s in _SHOTS
    ),
    max_new_tokens=8,
    stop=("\n",),
  ),
  "cot_few_shot": Template(
    user=_STEPS,
    shots=tuple(
      (_STEPS.format(text=_text(s), format=_FORMAT), _reasoned(s))
      for s in _SHOTS
    ),
    max_new_tokens=128,
  ),
}

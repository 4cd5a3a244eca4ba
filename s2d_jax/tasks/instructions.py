"""Everyday requests with one rule about the form of the reply.

Whether a reply follows the rule is checked by a program (`rules.py`); whether
it is any good is not. A fine-tune that teaches short answers may cost a model
this, which short questions cannot show. Splits are by request, so nothing that
is asked in the test split is ever trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import itertools
import random
import re
from typing import Any

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.words import normalise
from s2d_jax.errors import UserError
from s2d_jax.system2.program import Fields, Template
from s2d_jax.tasks import rules
from s2d_jax.tasks.task import Example

_EXPLANATIONS = (
  "Explain why leaves turn red in autumn.",
  "Why does bread rise in the oven?",
  "How does a refrigerator keep food cold?",
  "Why do we need sleep?",
  "What is the difference between weather and climate?",
  "Why is the sea salty?",
  "How do vaccines work?",
  "Why do cats purr?",
  "What does a lawyer do all day?",
  "Why do prices rise over time?",
  "How does a bicycle stay upright?",
  "What makes a good friend?",
  "Why does metal feel colder than wood?",
  "How do bees make honey?",
  "What is a mortgage?",
  "Why do people like music?",
  "How does a rainbow form?",
  "What is the use of a budget?",
  "Why do onions make us cry?",
  "How do airplanes stay in the air?",
  "What is a computer virus?",
  "Why are some people afraid of spiders?",
  "How is paper made?",
  "What does a heart do?",
)
_TEXTS = (
  "Write a birthday message to a colleague.",
  "Thank a neighbour for watering the plants.",
  "Describe a quiet morning by a lake.",
  "Invite a friend to dinner on Saturday.",
  "Tell a colleague that the meeting is moved to Monday.",
  "Write a short advertisement for a second-hand bike.",
  "Describe your ideal holiday.",
  "Apologise to a customer for a late parcel.",
  "Write the opening of a story about a lost dog.",
  "Congratulate a friend on a new job.",
  "Describe the smell of fresh coffee.",
  "Write a note to the family who buys your old house.",
  "Encourage a student before an exam.",
  "Describe a busy train station.",
  "Ask a landlord to repair the heating.",
  "Write a review of a cosy restaurant.",
  "Wish a sick friend a quick recovery.",
  "Describe a thunderstorm at night.",
  "Tell a child why brushing teeth matters.",
  "Write a text for the door of a shop that is closed today.",
  "Describe an old tree in a park.",
  "Recommend a hobby to somebody who has just retired.",
  "Write a farewell to a team you liked.",
  "Introduce yourself to new neighbours.",
)
_SHORT_TEXTS = (
  "Write a slogan for a bakery.",
  "Greet the guests of a hotel.",
  "Ask a friend how the exam went.",
  "Write a headline about a flood in a small town.",
  "Wish your parents a happy anniversary.",
  "Write a sign that asks people not to feed the ducks.",
  "Ask a waiter for the bill.",
  "Write a slogan for a bike shop.",
  "Say good night to a child.",
  "Write a headline about a football final.",
  "Ask a stranger the way to the museum.",
  "Thank the audience after a concert.",
  "Write the first line of a love song.",
  "Warn a driver of ice on the road.",
  "Write a slogan for a swimming pool.",
  "Ask a colleague for a pen.",
  "Write a headline about a very hot summer.",
  "Cheer a runner on.",
  "Write a sign for the door of a dark room.",
  "Ask the neighbours to be quiet.",
  "Write a slogan for a new soap.",
  "Welcome a new member to a choir.",
  "Write a headline about a lost parrot.",
  "Tell a friend that dinner is ready.",
)
_LISTS = (
  "What should I take to the beach?",
  "Name some good breakfast foods.",
  "Suggest gifts for a grandmother.",
  "What are good ways to save money?",
  "Suggest games for a rainy afternoon.",
  "Which vegetables grow well in a small garden?",
  "What belongs in a first aid kit?",
  "Suggest topics for small talk at a party.",
  "What are the benefits of walking?",
  "Name some household tasks that children can do.",
  "What should I check before I buy a used car?",
  "Suggest toppings for a pizza.",
  "What are common reasons for being late?",
  "Name some jobs in a hospital.",
  "Suggest names for a small cafe.",
  "What should I pack for a hike?",
  "Name some musical instruments for beginners.",
  "What are good habits for working from home?",
  "Suggest presents for a housewarming.",
  "What can I do against stress?",
  "Name some animals that live in a forest.",
  "Which spices should every kitchen have?",
  "Suggest activities for a school trip.",
  "What are signs of a good teacher?",
)
_STEPS = (
  "How do I boil an egg?",
  "How do I change a flat tyre?",
  "How do I plant a tree?",
  "How do I clean a window?",
  "How do I make a cup of tea?",
  "How do I wrap a present?",
  "How do I iron a shirt?",
  "How do I prepare for a job interview?",
  "How do I make a sandwich?",
  "How do I paint a wall?",
  "How do I send a parcel?",
  "How do I wash a woollen jumper?",
  "How do I fry an onion?",
  "How do I set a table?",
  "How do I back up my photos?",
  "How do I sew on a button?",
)
_THINGS = tuple(
  f"Make up {thing} that a shop could sell."
  for thing in (
    "a winter coat", "a kitchen knife", "a desk lamp", "a garden chair",
    "a suitcase", "a toy car", "a coffee mug", "a pair of boots",
    "a picture frame", "a water bottle", "a blanket", "a bookshelf",
  )
)  # fmt: skip
_GROUPS = _EXPLANATIONS, _TEXTS, _SHORT_TEXTS, _LISTS, _STEPS, _THINGS
_FREE = _EXPLANATIONS + _TEXTS

# Requests that suit a kind of rule.
_SUITABLE = dict.fromkeys(rules.RULES, _FREE) | {
  "ends_with": _TEXTS,
  "ends_with_sign": _SHORT_TEXTS,
  "case": _SHORT_TEXTS + _LISTS,
  "exact_words": _SHORT_TEXTS,
  "at_most_words": _EXPLANATIONS + _SHORT_TEXTS,
  "at_least_words": _FREE + _LISTS,
  "lines": _TEXTS + _LISTS,
  "bullets": _LISTS,
  "numbered_steps": _STEPS,
  "without_sign": _FREE + _LISTS,
  "between_signs": _SHORT_TEXTS,
  "json_object": _THINGS,
}
# Where the requests of a split begin and end in each group.
_SHARES = {"test": (0, 0.5), "valid": (0.5, 0.7), "train": (0.7, 1)}


class Instructions:
  """Asks for a reply that follows one rule.

  Kinds of rules take turns, so that the first examples of a split have as many
  of each kind as possible.

  Args:
    train: examples to learn from.
    valid: examples held out to choose the checkpoint.
    test: examples held out for the report.
    seed: of the splits, and of which request has which rule.
  """

  name = "instructions"
  variants = ("plain",)
  perturbations: tuple[str, ...] = ()
  plain = biased = "plain"
  prompts: Mapping[str, Template] = {
    "system1": Template("{text}", max_new_tokens=96)
  }

  def __init__(
    self, train: int = 200, valid: int = 60, test: int = 120, seed: int = 0
  ):
    self._seed = seed
    self._sizes = {"test": test, "valid": valid, "train": train}
    for split, size in self._sizes.items():
      most = sum(1 for _ in self._pairs(split))
      if not 1 <= size <= most:
        raise UserError(
          f"task.{split}={size} requests with a rule must be from 1 to {most},"
          " as many as that split has different ones"
        )

  def examples(self) -> dict[str, list[Example]]:
    """Examples by split; none is there twice, no request in two splits."""
    return {
      split: [
        self._example(*pair)
        for pair in itertools.islice(self._pairs(split), size)
      ]
      for split, size in self._sizes.items()
    }

  def inputs_of(self, text: str) -> Mapping[str, Any]:
    """Without its rule, which only the score looks at."""
    return {"text": text}

  def fields(self, example: Example, variant: str) -> Fields:
    return {
      "text": example.inputs["text"],
      "format": "a reply that does as it is asked to",
    }

  def answer(self, example: Example, variant: str, reply: str) -> Answer | None:
    """All that the reply says, unless it only repeats the request."""
    said = replies.said(reply)
    asked, told = normalise(example.inputs["text"]), normalise(said)
    # The request, its rule, or both; a few of its words may be a fair reply.
    is_echo = asked.startswith(told) or asked.endswith(told)
    return None if is_echo else Answer(said, strict=True)

  def target(self, example: Example, variant: str, answer: str) -> None:
    """None: there are many replies that follow a rule."""

  def score(
    self, example: Example, variant: str, answer: str | None
  ) -> dict[str, float]:
    """Whether the rule is followed; it takes no label to know that."""
    kind, value = example.inputs["kind"], example.inputs["value"]
    is_right = answer is not None and rules.is_followed(kind, value, answer)
    return {"accuracy": float(is_right)}

  def _pairs(self, split: str) -> Iterator[tuple[str, str, Any]]:
    """Every request of a split with every rule that suits it.

    Kinds take turns, and so do the requests of a kind and its values.
    """
    rng = random.Random(f"{self._seed}/{split}")
    own = self._requests(split)
    by_kind = []
    for kind, rule in rules.RULES.items():
      suitable = [one for one in _SUITABLE[kind] if one in own]
      requests = rng.sample(suitable, len(suitable))
      values = rng.sample(rule.values, len(rule.values))
      by_kind.append(
        [
          (kind, request, values[(place + turn) % len(values)])
          for turn in range(len(values))
          for place, request in enumerate(requests)
        ]
      )
    return filter(None, itertools.chain(*itertools.zip_longest(*by_kind)))

  def _requests(self, split: str) -> set[str]:
    first, last = _SHARES[split]
    found = set()
    for group in _GROUPS:
      rng = random.Random(f"{self._seed}/requests")
      order = rng.sample(group, len(group))
      found.update(order[int(first * len(order)) : int(last * len(order))])
    return found

  def _example(self, kind: str, request: str, value: Any) -> Example:
    name = " ".join(re.findall(r"\w+", f"{value} {request}".lower()))
    return Example(
      id=f"{kind}-{name}".replace(" ", "-"),
      task=self.name,
      inputs={
        "text": f"{request} {rules.RULES[kind].worded(value)}",
        "kind": kind,
        "value": value,
      },
    )

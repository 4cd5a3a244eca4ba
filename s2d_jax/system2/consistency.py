"""Universal self-consistency (Chen et al. 2023): the model picks its reply.

For free-form replies, where no two are equal and a vote has nothing to count.
It is asked with the replies in several orders, since models choose by position.
"""

from __future__ import annotations

from collections.abc import Sequence
import re

from s2d_jax.generation.engine import random_key
from s2d_jax.system2.program import Fields, Prompts, Steps, Template

# Odd, so that two replies cannot share the first place if all orders choose.
ORDERS = 5

PROMPTS = {
  "usc": Template(
    user=(
      "A question was answered several times.\n\n[Question]\n{text}\n\n"
      "{responses}\n\nWhich response is the most consistent with the others,"
      " saying what most of them say? Answer with its number only."
    ),
    max_new_tokens=16,
  )
}


def usc(fields: Fields, prompts: Prompts) -> Steps:
  """Shows the numbered responses and asks for the most consistent one."""
  return (yield prompts["usc"].ask(**fields))


def orders(count: int, *name: str | int) -> list[list[int]]:
  """Random orders of `count` replies, the same on every machine.

  Args:
    count: of replies.
    name: what the orders belong to: run seed, example, variant.
  """
  return [
    sorted(
      range(count), key=lambda number: random_key(*name, "order", order, number)
    )
    for order in range(ORDERS)
  ]


def number_responses(replies: Sequence[str]) -> str:
  """The replies as a list that begins with 1."""
  return "\n".join(
    f"[Response {number}] {' '.join(reply.split())}"
    for number, reply in enumerate(replies, start=1)
  )


# Ways of naming a response, the clearest first.
_NAMED = [
  re.compile(pattern, re.IGNORECASE)
  for pattern in (
    r"\A[^\w-]*(?:response\s*)?#?(\d{1,4})"
    r"(?=\W*(?:\Z|\n)|\W+(?:is|as|because|since)\b)",
    r"\bresponse\s*#?(\d{1,4})\W+is\s+(?:the\s+)?most\b",
    r"\bis:?\s*\W?(?:response\s*)?#?(\d{1,4})\b(?![.,]\d|\s+of\b)",
    r"\bresponse\s*#?(\d{1,4})\b",
    r"(?<![\w.,-])(\d{1,4})\b(?![.,]\d|\s+of\b)",
  )
]


def chosen(reply: str, count: int) -> int | None:
  """The index of the response that a reply names; None where it names none."""
  for pattern in _NAMED:
    for number in map(int, pattern.findall(reply)):
      if 1 <= number <= count:
        return number - 1
  return None

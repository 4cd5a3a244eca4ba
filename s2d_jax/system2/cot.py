"""Chain of thought: reason step by step, then say the answer.

Wei et al. 2022 (with worked examples), Kojima et al. 2022 (without). The steps
are thrown away: the method returns the answer after the last marker.
"""

from __future__ import annotations

import re

from s2d_jax.system2.program import Fields, Prompts, Steps, Template

PROMPTS = {
  "cot": Template(
    user=(
      "{text}\n\nThink step by step. Then end with a line that starts with"
      ' "Answer:" and has {format}, nothing else.'
    ),
    max_new_tokens=384,
  )
}

# A judge explains before it decides.
_JUDGE = (
  "Two assistants have answered the same request.\n\n[Request]\n{question}\n\n"
  "[Answer A]\n{answer_a}\n\n[Answer B]\n{answer_b}\n\nFirst compare the two"
  " answers in a few sentences: which follows the request better, which is"
  " right, which helps more? Neither their order nor their length matters. Then"
  " give your verdict on the last line: [[A]] if answer A is better, [[B]] if"
  " answer B is better, [[C]] if neither is."
)
_JUDGE_SHOTS = (
  (
    {
      "question": "Which is larger, 3/4 or 2/3?",
      "answer_a": "2/3, because 3 is less than 4.",
      "answer_b": "3/4 is larger: 9/12 against 8/12.",
    },
    "Answer A names the smaller number, and its reason is wrong. Answer B is"
    " right and shows why.\n[[B]]",
  ),
  (
    {
      "question": "Name a fruit that is red.",
      "answer_a": "A cherry.",
      "answer_b": "Many fruits are red, and red is a colour that I like.",
    },
    "Answer A names a red fruit, as asked. Answer B names none.\n[[A]]",
  ),
)
JUDGE_PROMPTS = {
  "cot_judge": Template(
    _JUDGE,
    shots=tuple(
      (_JUDGE.format(**fields), judged) for fields, judged in _JUDGE_SHOTS
    ),
    max_new_tokens=192,
  )
}

_MARKER = re.compile(
  r"\banswer(?:\s*[:：=]| is\b\s*[:：]?)"
  # With little behind it: "the answer to this is that we need" is prose.
  r"|\banswer (?:was|(?:would|will|must) be|to (?:this|the|your)\b[^.:\n]*? is)"
  r"\b:?(?=.{1,40}$)"
  # A number as GSM8K marks it, not the heading of a step.
  r"|####(?=[^\S\n]*[-+$€£]?\d)(?![^\S\n]*\d+[.)][^\S\n]+\S)",
  re.IGNORECASE | re.MULTILINE,
)
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
# The instruction, repeated by the model: `starts with "Answer:"`.
_QUOTED = re.compile(r"[\"“'`]answer:?[\"”'`]", re.IGNORECASE)
# "4. A total of 10 …": what follows is no part of the answer. Initials and
# titles end no sentence.
_SENTENCE_END = re.compile(
  r"(?<!\b[A-Z])(?<!\b(?:St|Mr|Dr|Ms|Mt))(?<!\bMrs)(?<!\bProf)"
  r"[.!?](?=\s+[A-Z])"
)


def cot(fields: Fields, prompts: Prompts) -> Steps:
  """Reasons without worked examples."""
  reply = yield prompts["cot"].ask(**fields)
  return final_answer(reply.text)


def cot_few_shot(fields: Fields, prompts: Prompts) -> Steps:
  """Reasons as the worked examples of the task do."""
  reply = yield prompts["cot_few_shot"].ask(**fields)
  return final_answer(reply.text)


def cot_judge(fields: Fields, prompts: Prompts) -> Steps:
  """Explains, then decides: the verdict is found by the task."""
  return (yield prompts["cot_judge"].ask(**fields))


def final_answer(text: str) -> str:
  """The sentence after the last marker; without one, the last line."""
  text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text.replace("**", ""))
  marked = _QUOTED.sub("\0", _BOXED.sub(r"\nAnswer: \1\n", text))
  for text in reversed(_MARKER.split(marked)[1:]):
    line = text.strip().partition("\n")[0]
    end = _SENTENCE_END.search(line)
    answer = (line[: end.end()] if end else line).strip(" *_`")
    if answer and "\0" not in answer:
      return answer
  lines = [line.strip(" \t*_`#") for line in text.splitlines()]
  return next(filter(None, reversed(lines)), "")

"""Chain of thought: reason step by step, then say the answer.

Wei et al. 2022 (with worked examples), Kojima et al. 2022 (without). The steps
are thrown away: the method returns the answer after the last marker.
"""

from __future__ import annotations

import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.confirmed import stands
from s2d_jax.answers.statements import Statement, last_word, statements
from s2d_jax.answers.words import normalise
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
JUDGE_SHOTS = (
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
      (_JUDGE.format(**fields), judged) for fields, judged in JUDGE_SHOTS
    ),
    max_new_tokens=192,
  )
}


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
  """The sentence that is marked as the answer; without one, the last line.

  Where something else may be meant as the answer, too, all of the text.
  """
  said = statements(replies.said(text))
  if any(one.is_marked for one in said):
    found = last_word(said, _first_word, lambda behind, answer: True)
    from_it = [one.text for one in said[found[1] :]] if found else []
    is_kept = bool(from_it) and stands(from_it, but={"negates"})
    return said[found[1]].text if is_kept else replies.said(text)
  if replies.is_unanswered(text):
    return ""
  lines = reversed(replies.said(text).splitlines())
  return next(filter(str.strip, lines), "").strip()


def _first_word(said: Statement) -> str:
  """Tells answers apart, and not "8" from "8 apples"."""
  return next(iter(normalise(said.text).split()), "")


_OPENS_ANSWER = re.compile(r"[\s$]*(?:\\boxed\s*\{|\[\[)?\s*\Z")
_VERDICT = re.compile(r"\[\[[^\[\]]*\]\]")


def statement(text: str) -> str:
  """The one sentence of a reply that states its answer; may be empty.

  What is marked as the answer, a verdict in double brackets without the rest of
  its sentence; without a marker, the last sentence.
  """
  text = replies.said(text)
  verdicts = _VERDICT.findall(text)
  if verdicts:
    return verdicts[-1]
  said = statements(text)
  marked = [one for one in said if one.is_marked]
  return next((one.text for one in reversed(marked or said)), "")


def reasoning(text: str) -> str:
  """What a reply says before it states its answer; may be empty.

  A marker stays, at the end: it then marks what stands on the next line.
  """
  tagged, _, text = text.rpartition("</think>")
  answer, text = statement(text), replies.said(text)
  before = text[: text.rfind(answer)] if answer in text else text
  before = _OPENS_ANSWER.sub("", before)
  tagged = tagged.replace("<think>", "").strip()
  return "\n".join(filter(None, (tagged, before)))

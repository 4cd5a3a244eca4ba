"""What a teacher reads in place of the student's question.

It is the same model: what it knows better is in its prompt (context
distillation, Askell et al. 2021; on the student's own replies: GKD, Agarwal et
al. 2024). `{question}` is the last message of the student's prompt, `{answer}`
the answer that the vote selected, `{thought}` a thought that came to it, and a
newline, where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping

from s2d_jax.conversation import Message
from s2d_jax.errors import UserError
from s2d_jax.records import Record
from s2d_jax.system2.program import Template

PROMPTS = {
  # The question comes last: what it asks for is then what is read last.
  "answer": (
    "Most careful attempts at the question below came to this answer:\n\n"
    "{thought}{answer}\n\n{question}"
  ),
  "brief": (
    "{question}\n\nBe brief: come to the answer with as few words before it as"
    " you can."
  ),
}


def prompt(changes: Mapping[str, str], teacher: str) -> str:
  """The text of this teacher's prompt, or the one that a config has instead.

  Args:
    changes: `config.prompts.teacher`.
    teacher: name of the default.

  Raises:
    UserError: the config has something else, or a placeholder that is unknown.
  """
  if other := set(changes) - {"user"}:
    raise UserError(
      f"prompts.teacher.{min(other)} cannot be: the teacher reads the student's"
      " prompt with prompts.teacher.user in place of its last message"
    )
  text = changes.get("user", PROMPTS[teacher])
  if not isinstance(text, str):
    raise UserError(f"prompts.teacher.user={text!r} must be a text")
  _filled(text, question="", answer="", thought="")
  return text


def messages(text: str, record: Record) -> list[Message]:
  """The student's prompt, whose last message is the teacher's.

  Args:
    text: with placeholders.
    record: of distill/.
  """
  *before, last = record["prompt"]
  thought = record.get("thought")
  content = _filled(
    text,
    question=last["content"],
    answer=record["target"],
    thought=f"{thought}\n" if thought else "",
  )
  return [*before, {"role": "user", "content": content}]


def _filled(text: str, **values: str) -> str:
  template = Template(user=text, max_new_tokens=1)  # it is read, not replied to
  return template.messages(**values)[-1]["content"]

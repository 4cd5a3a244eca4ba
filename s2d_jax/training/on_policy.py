"""What an on-policy fine-tune reads: rows of the student's own replies.

Which prompts an update has is known before anything is drawn: they are packed
with room for the longest reply. The replies of some updates are drawn together,
by the model as it is then; a file keeps them, so that a run that was killed
amid these updates goes on with the same ones.

Axis letters: P tokens of a prompt, T tokens of an example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import hashlib
from typing import NamedTuple

from etils import epath
from jaxtyping import Int
import ml_collections
import numpy as np

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.models.params import Params
from s2d_jax.parallel import hosts
from s2d_jax.training.data import Splits, TrainingData
from s2d_jax.training.examples import Tokenised
from s2d_jax.training.packing import OnPolicyRows, in_order, stack


class Asked(NamedTuple):
  """What the student is asked, and what its teacher reads in place of that."""

  student: Int[np.ndarray, " P"]
  teacher: Int[np.ndarray, " P"]


class Reply(NamedTuple):
  """What the student has written, up to and including the token that ends it.

  A reply as long as there is room for may have no such token.
  """

  text: str
  tokens: tuple[int, ...]


class Question(NamedTuple):
  """A prompt of one update, to be answered."""

  name: tuple[str | int, ...]  # of the reply, which its randomness goes by
  prompt: tuple[int, ...]


# From the student's weights, laid out as they are trained, to its replies.
Draw = Callable[[Params, Sequence[Question]], list[Reply]]


class OwnReplies(NamedTuple):
  """How replies come about.

  Attributes:
    asked: the prompts by name.
    room: the most tokens of a reply.
    draw: draws them; a function of the weights and of the names of questions.
  """

  asked: Mapping[str, Asked]
  room: int
  draw: Draw


class OnPolicyData(TrainingData):
  """The batches of a run that learns from its own replies."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    valid: Mapping[str, Tokenised],
    own: OwnReplies,
    folder: epath.Path,
    seed: int,
    share: bool,
    multiple: int = 1,
  ):
    """Packs the prompts.

    Args:
      config: the `finetune` section.
      valid: examples to choose the checkpoint by.
      own: how replies come about.
      folder: of the files of replies.
      seed: of the order of rows.
      share: whether examples may share tokens (`step.can_share`).
      multiple: of what the tokens of a teacher's row are one.

    Raises:
      UserError: there are no examples, or one does not fit.
    """
    self._own, self._folder, self._share = own, folder, share
    self._every = config.kl.every
    for name, asked in own.asked.items():
      _check_fits(name, len(asked.student) + own.room, config.row_length)
    train = {
      name: _with_room(asked.student, own.room, number)
      for number, (name, asked) in enumerate(own.asked.items())
    }
    super().__init__(config, Splits(train, valid), seed, share)
    names = list(own.asked)
    # Of each row, the names of its examples, by the numbers in their tails.
    self._rows = [
      [names[-1 - placed.example.tokens[-1]] for placed in row]
      for row in self._places
    ]
    self._row_length = config.row_length
    self.teacher_length = max(map(self._teacher_tokens, self._rows))
    self.teacher_length += -self.teacher_length % multiple
    self._temperature = config.kl.temperature
    self._replies: dict[tuple[str | int, ...], Reply] = {}
    self._first_step = 0  # of the updates whose replies these are

  def prepare(self, step: int, weights: Callable[[], Params]) -> None:
    """Draws replies if this update is the first of some; before `batch`.

    Args:
      step: of the update, from 1.
      weights: the student's, as they are before it.

    Raises:
      UserError: they were drawn before, and the file of them is not there.
    """
    first = step - (step - 1) % self._every
    if first == self._first_step:
      return
    path = self._folder / f"{first:06}.jsonl"
    steps = range(first, min(first + self._every, self.total_steps + 1))
    questions = [question for s in steps for question in self._questions(s)]
    if step == first:
      replies = self._own.draw(weights(), questions)
      if hosts.is_lead():
        records.write(path, map(_record, questions, replies))
    else:
      replies = _read(path, questions)
    names = [question.name for question in questions]
    self._replies = dict(zip(names, replies, strict=True))
    self._first_step = first

  def batch(self, step: int) -> OnPolicyRows:
    """The rows of update `step`, from 1, with the replies to their prompts."""
    student, teacher = [], []
    for names in self._examples(step):
      asked = [self._own.asked[name[-1]] for name in names]
      replies = [self._replies[name].tokens for name in names]
      pairs = list(zip(asked, replies, strict=True))
      for rows, prompts in (
        (student, [_answered(one.student, reply) for one, reply in pairs]),
        (teacher, [_answered(one.teacher, reply) for one, reply in pairs]),
      ):
        rows.append(in_order(prompts, self._share))
    slots = self._train.target_index.shape[1]
    packed = (
      stack(student, self._row_length, slots),
      stack(teacher, self.teacher_length, slots),
    )
    indices = np.arange(len(student))
    return OnPolicyRows(
      *(rows.take(indices, self._batch_rows) for rows in packed)
    )

  def figures(self, step: int) -> dict[str, float]:
    lengths = [
      len(self._replies[name].tokens)
      for names in self._examples(step)
      for name in names
    ]
    return {"reply_tokens": float(np.mean(lengths))}

  def fingerprint(self) -> dict[str, int | str]:
    digest = hashlib.sha256()
    for name, asked in self._own.asked.items():
      digest.update(f"{name} {len(asked.teacher)} ".encode())
      digest.update(np.ascontiguousarray(asked.teacher, np.int32))
    return super().fingerprint() | {
      "every": self._every,
      "temperature": self._temperature,
      "teacher": digest.hexdigest(),
    }

  def _examples(self, step: int) -> Iterator[list[tuple[str | int, ...]]]:
    """Of each row of an update, the names of its examples' replies.

    A row may come twice in an update that ends an epoch: its place in the
    update tells one reply from the other.
    """
    for place, row in enumerate(self._order[step - 1]):
      yield [(step, place, name) for name in self._rows[row]]

  def _questions(self, step: int) -> Iterator[Question]:
    for names in self._examples(step):
      for name in names:
        yield Question(name, tuple(self._own.asked[name[-1]].student.tolist()))

  def _teacher_tokens(self, names: Sequence[str]) -> int:
    """Of a row with these examples, if their replies are as long as can be."""
    longest = [
      _with_room(self._own.asked[name].teacher, self._own.room, number)
      for number, name in enumerate(names)
    ]
    places = in_order(longest, self._share)
    return sum(len(one.example.tokens) - one.shared for one in places)


def _check_fits(name: str, tokens: int, row_length: int) -> None:
  if tokens > row_length:
    raise UserError(
      f"example {name} and the longest reply have {tokens} tokens, more than"
      f" finetune.row_length={row_length}; raise it, or lower"
      " prompts.system1.max_new_tokens"
    )


def _with_room(
  prompt: Int[np.ndarray, " P"], room: int, number: int
) -> Tokenised:
  """A prompt with a reply that is not known yet.

  Its tokens, and the prompt's last, which predicts the first of them, are a
  number that no other example has: so no other shares them.
  """
  own = np.full(1 + room, -1 - number, np.int32)
  tokens = np.concatenate([prompt[:-1], own]).astype(np.int32)
  return Tokenised(tokens, np.arange(len(tokens)) >= len(prompt))


def _answered(prompt: Int[np.ndarray, " P"], reply: Sequence[int]) -> Tokenised:
  """All tokens of the reply are targets, those after the prompt."""
  tokens = np.concatenate([prompt, reply]).astype(np.int32)
  return Tokenised(tokens, np.arange(len(tokens)) >= len(prompt))


def _record(question: Question, reply: Reply) -> records.Record:
  step, place, example = question.name
  return {
    "step": step,
    "row": place,
    "example": example,
    "text": reply.text,
    "tokens": list(reply.tokens),
  }


def _read(path: epath.Path, questions: Sequence[Question]) -> list[Reply]:
  """The replies to these questions, as they were drawn."""
  if not path.exists():
    raise UserError(
      f"{path} is not there, and the fine-tune stopped amid the updates that"
      " learn from it; delete checkpoints/ to begin it anew"
    )
  found = {
    (line["step"], line["row"], line["example"]): Reply(
      line["text"], tuple(line["tokens"])
    )
    for line in records.read(path)
  }
  return [found[question.name] for question in questions]

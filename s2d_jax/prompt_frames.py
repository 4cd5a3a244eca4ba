"""What stands around the prompts of a template, which samples/ holds once.

A system message and worked examples before the question, how to answer and the
marks of a turn behind it are the same in all prompts of a template, and longer
than all else that a sample says. prompts.jsonl, in the folder of the samples,
has them by a name. A step has that name as "frame", and as "prompt" what stands
in it; a step without "frame" has its whole prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
import hashlib
from typing import NamedTuple

from etils import epath

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.records import Record

_SHORTEST = 64  # letters that a name is worth


class Frame(NamedTuple):
  """What stands before and behind a part of a prompt that is its own."""

  before: str
  behind: str

  @property
  def name(self) -> str:
    text = "\0".join(self).encode()
    return hashlib.blake2b(text, digest_size=4).hexdigest()

  @property
  def length(self) -> int:
    return len(self.before) + len(self.behind)

  def holds(self, prompt: str) -> bool:
    is_long = len(prompt) >= self.length
    ends = prompt.startswith(self.before) and prompt.endswith(self.behind)
    return is_long and ends

  def own_part(self, prompt: str) -> str:
    """What is in the frame, of a prompt that it holds."""
    return prompt[len(self.before) : len(prompt) - len(self.behind)]


class PromptFrames:
  """What prompts may stand in.

  Args:
    frames: that are long enough to be held apart; others are left out.
  """

  def __init__(self, frames: Iterable[Frame]):
    long = [frame for frame in frames if frame.length >= _SHORTEST]
    # The longest first: a prompt may stand in several.
    long.sort(key=lambda frame: frame.length, reverse=True)
    self._frames = {frame.name: frame for frame in long}

  @classmethod
  def read(cls, folder: epath.Path) -> PromptFrames:
    """Those of a folder of samples, which may have none."""
    path = folder / "prompts.jsonl"
    rows = records.read(path) if path.exists() else ()
    return cls(
      Frame(row["before"], row["behind"])
      for row in rows
      if row.keys() >= set(Frame._fields)
    )

  def write(self, folder: epath.Path) -> None:
    """Adds them to a folder of samples."""
    frames = PromptFrames.read(folder)._frames | self._frames
    rows = (
      {"frame": name, **frames[name]._asdict()} for name in sorted(frames)
    )
    records.write(folder / "prompts.jsonl", rows)

  def split(self, step: Record) -> Record:
    """A step with the name of the frame that its prompt stands in."""
    for name, frame in self._frames.items():
      if frame.holds(step["prompt"]):
        own = frame.own_part(step["prompt"])
        return {"frame": name} | step | {"prompt": own}
    return step

  def restore(self, sample: Record) -> Record:
    """A sample with whole prompts.

    Raises:
      UserError: one stands in a frame that is not known.
    """
    for step in sample["steps"]:
      name = step.pop("frame", None)
      if name is None:
        continue
      if name not in self._frames:
        raise UserError(
          f"prompts.jsonl lacks the frame {name!r} of prompts; it belongs to"
          " the samples, so copy it from where they are from"
        )
      frame = self._frames[name]
      step["prompt"] = f"{frame.before}{step['prompt']}{frame.behind}"
    return sample

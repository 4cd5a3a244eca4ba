"""What many prompts begin with, which samples/ holds once.

A template's system message and worked examples are the same in all of its
prompts, and longer than all else that a sample says. prompts.jsonl, in the
folder of the samples, has them by a name; a step has that name as "prefix", and
as "prompt" what comes behind it. A step without "prefix" has its whole prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
import hashlib

from etils import epath

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.records import Record

_SHORTEST = 64  # letters that a name is worth


class PromptPrefixes:
  """What prompts may begin with.

  Args:
    texts: that are long enough to be held apart; others are left out.
  """

  def __init__(self, texts: Iterable[str]):
    long = [text for text in texts if len(text) >= _SHORTEST]
    # The longest first: one may begin with another.
    self._texts = {
      _name(text): text for text in sorted(long, key=len, reverse=True)
    }

  @classmethod
  def read(cls, folder: epath.Path) -> PromptPrefixes:
    """Those of a folder of samples, which may have none."""
    path = folder / "prompts.jsonl"
    rows = records.read(path) if path.exists() else ()
    return cls(row["text"] for row in rows)

  def write(self, folder: epath.Path) -> None:
    """Adds them to a folder of samples."""
    texts = PromptPrefixes.read(folder)._texts | self._texts
    rows = [{"prefix": name, "text": texts[name]} for name in sorted(texts)]
    records.write(folder / "prompts.jsonl", rows)

  def split(self, step: Record) -> Record:
    """A step with the name of what its prompt begins with."""
    for name, text in self._texts.items():
      if step["prompt"].startswith(text):
        rest = step["prompt"].removeprefix(text)
        return {"prefix": name} | step | {"prompt": rest}
    return step

  def restore(self, sample: Record) -> Record:
    """A sample with whole prompts.

    Raises:
      UserError: one begins with what is not known.
    """
    for step in sample["steps"]:
      name = step.pop("prefix", None)
      if name is None:
        continue
      if name not in self._texts:
        raise UserError(
          f"prompts.jsonl lacks the beginning {name!r} of prompts; it belongs"
          " to the samples, so copy it from where they are from"
        )
      step["prompt"] = self._texts[name] + step["prompt"]
    return sample


def _name(text: str) -> str:
  return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()

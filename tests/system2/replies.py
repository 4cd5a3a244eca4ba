"""Drives a method by hand."""

from __future__ import annotations

import json
import pathlib

from s2d_jax.generation.engine import Completion


def reply(text: str) -> Completion:
  return Completion(text, (1, 2), -0.5, "stop")


def finish(steps, value):
  """What the method returns when it is given its last replies."""
  try:
    steps.send(value)
  except StopIteration as stop:
    return stop.value
  raise AssertionError("the method asked again")


def said(call) -> str:
  """What a call says last, and above all; worked examples left out."""
  first, *_, last = [call.messages[0], *call.messages]
  system = first["content"] + "\n" if first["role"] == "system" else ""
  return system + last["content"]


def real(parse: str) -> list[tuple]:
  """Replies of SmolLM2-135M-Instruct with what they say, read by hand."""
  path = pathlib.Path(__file__).parent / "real_replies.json"
  records = json.loads(path.read_text(encoding="utf-8"))
  return [(r["reply"], r["expected"]) for r in records if r["parse"] == parse]

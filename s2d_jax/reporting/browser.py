"""The inputs that the reader of the page can browse, as data for its script.

A run may have hundreds of thousands of samples; a page of them all could not be
opened. So there is a budget, and the page says what is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
import json
from typing import Any

import markupsafe

from s2d_jax.records import Record
from s2d_jax.reporting.transcripts import Transcript
from s2d_jax.training.examples import reply_of

_BUDGET = 2_500_000  # characters of all inputs together
_LONGEST = 2_000  # characters of a text
_MOST_SAMPLES = 10  # of an input
# What could end the script, or begin a comment in it; and line ends that
# JavaScript once did not know.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def inputs(transcripts: Sequence[Transcript]) -> list[dict[str, Any]]:
  """As many as the budget allows, in their order."""
  shown, size = [], 0
  for transcript in transcripts:
    found = _input(transcript)
    size += len(json.dumps(found, ensure_ascii=False))
    if size > _BUDGET and shown:
      break
    shown.append(found)
  return shown


def script_json(value: Any) -> markupsafe.Markup:
  """JSON that stays inside `<script type="application/json">`."""
  text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
  return markupsafe.Markup(text.translate(_ESCAPES))


def _input(transcript: Transcript) -> dict[str, Any]:
  record = transcript.record
  prompts: dict[str, int] = {}  # by text: samples share prompts
  samples = [
    {
      "sample": one["sample"] + 1,
      "answer": _cut(one["answer"]),
      "steps": [
        {
          "prompt": prompts.setdefault(_end(step["prompt"]), len(prompts)),
          "text": _cut(step["text"]),
          "tokens": step["tokens"],
        }
        for step in one["steps"]
      ],
    }
    for one in transcript.samples[:_MOST_SAMPLES]
  ]
  return {
    "id": record["example_id"],
    "variant": record["variant"],
    "why": transcript.why,
    "reason": record.get("reason"),
    "wrong": transcript.wrong,
    "question": _cut(_question(record)),
    "target": _cut(reply_of(record["target"], record.get("thought", ""))),
    "votes": [[_cut(name), count] for name, count in record["votes"].items()],
    "samples": record["samples"],
    "margin": record["margin"],
    "agreement": record["agreement"],
    "prompts": list(prompts),
    "drawn": samples,
    "more": len(transcript.samples) - len(samples),
  }


def _question(record: Record) -> str:
  prompt = record.get("prompt")
  return prompt[-1]["content"] if prompt else record["example_id"]


def _cut(text: str | None) -> str | None:
  if text is None or len(text) <= _LONGEST:
    return text
  return f"{text[:_LONGEST]} … ({len(text) - _LONGEST} more characters)"


def _end(text: str) -> str:
  """Of a prompt: worked examples come first, the question last."""
  if len(text) <= _LONGEST:
    return text
  left_out = len(text) - _LONGEST
  return f"({left_out} characters before this) … {text[-_LONGEST:]}"

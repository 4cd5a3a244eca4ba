"""From the results of contenders to figures and a table."""

from __future__ import annotations

from collections.abc import Mapping
import statistics
from typing import Any

Result = dict[str, Any]


def rate(result: Result, what: str) -> float:
  """Median over the repeats of `what` a second."""
  each = zip(result["counts"], result["seconds"], strict=True)
  return statistics.median(counts[what] / took for counts, took in each)


def figures(
  results: Mapping[str, Result], unit: str, bound: float | None
) -> dict[str, dict[str, float]]:
  """What the table shows of each contender.

  Args:
    results: of the contenders that compute the same.
    unit: what is counted: "tokens" or "target_tokens".
    bound: of the matrix products alone, in units a second.
  """
  ours = rate(results["s2d"], unit) if "s2d" in results else None
  out = {}
  for name, result in results.items():
    speed = rate(result, unit)
    shown = {f"{unit}/s": speed}
    if "completions" in result["counts"][0]:
      shown["completions/s"] = rate(result, "completions")
    if ours:
      shown["s2d is × faster"] = ours / speed
    if bound:
      shown["of bound"] = speed / bound
    if "useful" in result["counts"][0]:
      useful = [counts["useful"] for counts in result["counts"]]
      shown["useful row-steps"] = statistics.median(useful)
    shown |= {
      "spread": max(result["seconds"]) / min(result["seconds"]),
      "compile s": result["compile_s"],
      "first result s": result["first_result_s"],
      "peak GB": result["peak_bytes"] / 1e9,
    }
    out[name] = shown
  return out


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
  """A Markdown table with a row for each contender."""
  columns = list(dict.fromkeys(name for row in rows.values() for name in row))
  lines = [["", *columns]]
  for name, row in rows.items():
    lines.append([name, *(_shown(c, row.get(c)) for c in columns)])
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  lines.insert(1, ["-" * width for width in widths])
  return "\n".join(
    "| "
    + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True))
    + " |"
    for line in lines
  )


def _shown(column: str, value) -> str:
  if value is None:
    return ""
  if isinstance(value, str):
    return value
  if column in ("of bound", "useful row-steps"):
    return f"{value:.0%}"
  return f"{value:.0f}" if value >= 100 else f"{value:.2f}"

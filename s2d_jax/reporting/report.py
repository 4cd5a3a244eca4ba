"""The report of a run: one HTML page that needs nothing else, and its parts.

Made from the files of the workdir alone, so that a run can be reported at any
time, on any machine; what has not been run yet is left out.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import importlib.metadata
import json
import platform
from typing import Any

from etils import epath
import jinja2

from s2d_jax import records
from s2d_jax.curation.curve import threshold_curve
from s2d_jax.evaluation.results import Headline, headline, results
from s2d_jax.records import Record
from s2d_jax.reporting import plots, table as tables
from s2d_jax.reporting.answer import sentence
from s2d_jax.reporting.run_files import Run, load
from s2d_jax.reporting.table import Table, spoken
from s2d_jax.reporting.transcripts import changes, transcripts

# Why an input was rejected, and what the page calls it.
_REASONS = {
  "unparsable": "no answer",
  "tie": "tie",
  "margin": "margin too small",
  "disagrees": "forms disagree",
}
_PACKAGES = (
  "s2d_jax",
  "jax",
  "flax",
  "optax",
  "orbax-checkpoint",
  "transformers",
  "numpy",
)
_LONGEST = 4000  # characters of a text on the page


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture of the page; `light` and `dark` are PNGs."""

  name: str
  title: str
  caption: str
  light: bytes
  dark: bytes


@dataclasses.dataclass(frozen=True)
class Findings:
  """What is computed from the files of a run before it is put on a page."""

  answer: str
  headline: Headline | None
  table: Table
  curation: list[Mapping[str, Any]]
  pictures: Mapping[str, Picture]


def build(
  workdir: epath.PathLike,
  plain: str = "plain",
  biased: str = "suggests_wrong",
) -> epath.Path:
  """Writes report/: index.html, results.md, results.json and the pictures.

  Args:
    workdir: of the run.
    plain: the split asked straight.
    biased: the split meant to lead astray. A task without one of these splits
      is reported by its first split.

  Returns:
    Path of index.html.
  """
  run = load(workdir)
  rows = [
    *results(run.base, run.task, "base"),
    *results(run.distilled, run.task, "distilled"),
  ]
  splits = list(dict.fromkeys(row["split"] for row in rows)) or [plain]
  plain = plain if plain in splits else splits[0]
  biased = biased if biased in splits else plain
  found = _findings(run, rows, plain, biased)
  folder = run.workdir / "report"
  for picture in found.pictures.values():
    records.write_bytes(folder / f"{picture.name}.png", picture.light)
    records.write_bytes(folder / f"{picture.name}-dark.png", picture.dark)
  lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
  records.write_text(folder / "results.json", f"[\n{lines}\n]\n")
  records.write_text(folder / "results.md", _markdown(found))
  records.write_text(folder / "index.html", _page(run, found, biased))
  return folder / "index.html"


def _findings(
  run: Run, rows: Sequence[Record], plain: str, biased: str
) -> Findings:
  compared = headline(run.base, run.distilled, plain, biased)
  table = tables.make(rows, biased)
  return Findings(
    answer=sentence(compared, biased),
    headline=compared,
    table=table,
    curation=_curation(run, table.splits),
    pictures={p.name: p for p in _pictures(run, table, plain)},
  )


def right_by_label(run: Run) -> Callable[[Record], bool] | None:
  """Whether a vote's winner is the label; None unless all labels are text."""
  votes = run.accepted + run.rejected
  labels = [run.label(record["example_id"]) for record in votes]
  if not labels or not all(isinstance(label, str) for label in labels):
    return None
  return lambda record: record["winner"] == run.label(record["example_id"])


def _curation(run: Run, order: Sequence[str]) -> list[Mapping[str, Any]]:
  """A line a variant, and one for all: what was kept, and why not."""
  votes = run.accepted + run.rejected
  is_right = right_by_label(run)
  there = {record["variant"] for record in votes}
  variants = [variant for variant in order if variant in there]
  variants += sorted(there - set(variants))
  lines = []
  for variant in [*variants, None] if votes else []:
    part = [r for r in votes if variant in (None, r["variant"])]
    kept = [r for r in part if "reason" not in r]
    reasons = [r["reason"] for r in part if "reason" in r]
    won = [r for r in part if r["winner"] is not None]
    lines.append(
      {
        "variant": "all" if variant is None else spoken(variant),
        "total": len(part),
        "kept": len(kept),
        "reasons": {reason: reasons.count(reason) for reason in _REASONS},
        "right_kept": _share(is_right, kept),
        "right_won": _share(is_right, won),
      }
    )
  return lines


def _share(is_right, part: Sequence[Record]) -> float | None:
  if is_right is None or not part:
    return None
  return sum(map(is_right, part)) / len(part)


def _pictures(run: Run, table: Table, plain: str) -> list[Picture]:
  votes = run.accepted + run.rejected
  is_right = right_by_label(run)
  min_margin = run.setting("curation", "min_margin")
  min_agreement = run.setting("curation", "min_agreement") or 0.0
  curve = threshold_curve(votes, min_agreement, is_right)
  wanted: list[tuple[str, str, str, plots.Draw]] = []
  if table.rows:
    wanted += [
      (
        "accuracy",
        "Right answers by form",
        "Held-out inputs, each put in every form.",
        plots.accuracy_by_form(table),
      ),
      (
        "tokens",
        "What an answer costs",
        f"Full: {spoken(table.biased)}. Hollow: {spoken(plain)}. Every"
        " generated token counts, those of all steps and passes.",
        plots.accuracy_by_tokens(table, plain),
      ),
    ]
  if curve:
    unwon = sum(record["winner"] is None for record in votes)
    wanted += [
      (
        "margins",
        "How clearly the votes were won",
        f"{len(votes) - unwon} inputs with a winner; {unwon} without one"
        " are not shown. Labels are used for looking back only.",
        plots.margins(votes, min_margin, is_right),
      ),
      (
        "thresholds",
        "What another threshold would keep",
        "Each point a least margin, with the agreement of this run; the"
        " large one is the margin that was used.",
        plots.thresholds(curve, min_margin),
      ),
    ]
  if run.finetune:
    wanted.append(
      (
        "training",
        "Fine-tuning",
        "Loss on the target alone.",
        plots.training(run.finetune),
      )
    )
  return [
    Picture(
      name,
      title,
      caption,
      plots.render(draw, plots.LIGHT),
      plots.render(draw, plots.DARK),
    )
    for name, title, caption, draw in wanted
  ]


def _page(run: Run, found: Findings, biased: str) -> str:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("s2d_jax.reporting"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {
    "spoken": spoken,
    "data_url": lambda png: (
      "data:image/png;base64," + base64.b64encode(png).decode()
    ),
    "cut": _cut,
    "points": lambda share: f"{100 * share:+.0f}".replace("-", "−"),
  }
  counts, shown = changes(run, biased)
  return environment.get_template("report.html").render(
    run=run,
    found=found,
    biased=biased,
    reasons=_REASONS,
    transcripts=transcripts(run, biased, right_by_label(run)),
    change_counts=counts,
    changes=shown,
    config=json.dumps(run.config, indent=2, ensure_ascii=False),
    versions=_versions(),
  )


def _markdown(found: Findings) -> str:
  head, *body = list(found.table.lines())
  rows = [head, ["---", *["---:"] * (len(head) - 1)], *body]
  lines = ["| " + " | ".join(row) + " |" for row in rows] if body else []
  pictures = [
    f"![{p.title}]({p.name}.png)\n\n{p.caption}"
    for p in found.pictures.values()
  ]
  return (
    "\n\n".join(
      ["# Results", found.answer, *["\n".join(lines)] * bool(lines), *pictures]
    )
    + "\n"
  )


def _versions() -> dict[str, str]:
  versions = {"Python": platform.python_version()}
  for package in _PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue  # run from a checkout
  return versions


def _cut(text: str) -> str:
  """A text of any length as one that a page can hold."""
  if len(text) <= _LONGEST:
    return text
  return f"{text[:_LONGEST]} … ({len(text) - _LONGEST} more characters)"

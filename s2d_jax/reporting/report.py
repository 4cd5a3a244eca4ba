"""The report of a run: one HTML page that needs nothing else, and its parts.

Made from the files of the workdir alone, so that a run can be reported at any
time, on any machine; what has not been run yet is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import json
import operator
import shlex
from typing import Any

from etils import epath

from s2d_jax import records
from s2d_jax.curation.choice import position_bias
from s2d_jax.curation.curve import Counts, threshold_curve
from s2d_jax.evaluation import judges
from s2d_jax.evaluation.contamination import Seen
from s2d_jax.evaluation.controls import SHOTS, SYSTEM1, cost
from s2d_jax.evaluation.paired import Comparison
from s2d_jax.evaluation.results import Headline, headline, results
from s2d_jax.evaluation.retention import Retention, retention
from s2d_jax.evaluation.thinking import Thinking
from s2d_jax.evaluation.verdict import Verdict, verdict
from s2d_jax.records import Record
from s2d_jax.reporting import (
  browser,
  contamination,
  decomposition,
  evidence,
  gate as gates,
  page,
  paper,
  plots,
  retention as rest,
  sentences,
  settings,
  table as tables,
  too_long,
  versions,
)
from s2d_jax.reporting.gate import GateReport
from s2d_jax.reporting.judges import Agreement, agreement
from s2d_jax.reporting.run_files import Run, load
from s2d_jax.reporting.table import Kind, Table, readable
from s2d_jax.reporting.transcripts import changes, transcripts

# Reasons to reject an input, and what the page calls them.
_REASONS = {
  "too long": "too long",
  "given up": "not sampled",
  "unparsable": "no answer",
  "tie": "tie",
  "no choice": "none chosen",
  "votes": "too few votes",
  "margin": "margin too small",
  "disagrees": "variants disagree",
  "duplicate": "duplicate",
  "balance": "balanced out",
}
# What curation keeps, by config.curation.select.
_SELECTION = {
  "vote": (
    "An input is kept if its samples agree clearly and its other variants win"
    " the same answer."
  ),
  "usc": (
    "The model itself chose the reply that agrees best with the others; an"
    " input is kept if one is chosen in most orders of the replies, and its"
    " other variants win with the same answer."
  ),
  "first": "The first sample with an answer is taken as it is, unfiltered.",
  "label": "The labels are taught, as an upper bound: nothing was voted on.",
}
_LINE = 80  # letters of a command
_MOST_INPUTS = 400  # that can be browsed on the page


@dataclasses.dataclass(frozen=True)
class Findings:
  """What is computed from the files of a run before it is put on a page.

  Attributes:
    outcome: the sentence at the head.
    pays: sentences; the first says whether thinking pays.
    kept: sentences; the first says whether the distilled model reached System
      2, the second what kind of replies changed.
    evidence: lines of a table, the comparisons behind the sentences.
    changes: lines of a table, what the fine-tune changed in each split.
    gate: what thinking only now and then buys.
    read_before: sentences on whether the base model had read the test split.
  """

  outcome: str
  pays: Sequence[str]
  kept: Sequence[str]
  evidence: Sequence[Sequence[str]]
  changes: Sequence[Sequence[str]]
  gate: GateReport
  headline: Headline | None
  verdict: Verdict
  table: Table
  controls: str | None
  agreement: Agreement
  valid: Table
  retention: Retention
  seen: Seen | None
  read_before: Sequence[str]
  voting: str | None
  choices: str | None
  left_out: str | None
  not_answered: str | None
  valid_not_answered: str | None
  reasons: Mapping[str, str]
  curation: list[Mapping[str, Any]]
  plots: Mapping[str, page.Plot]
  training: Mapping[str, str]


def build(
  workdir: epath.PathLike,
  plain: str = "plain",
  biased: str = "suggests_wrong",
  seen: Seen | None = None,
  why_no_shots: str = "",
  has_shots: bool = True,
) -> epath.Path:
  """Writes report/: index.html, results.md, two .json files and the plots.

  Args:
    workdir: of the run.
    plain: the neutral split.
    biased: the split meant to lead astray. A task without one of these splits
      is reported by its first split.
    seen: what of the test split was trained on.
    why_no_shots: why System 1 was not asked behind worked examples.
    has_shots: whether System 2 has worked examples.

  Returns:
    Path of index.html.
  """
  run = load(workdir)
  rows = [
    *results(run.base, run.task, "base"),
    *results(run.distilled, run.task, "distilled"),
    *results(run.gated, run.task, "gated"),
    *_agreement_with_people(run),
  ]
  splits = {r["variant"]: None for r in [*run.base, *run.distilled, *run.valid]}
  plain = plain if plain in splits else next(iter(splits), plain)
  biased = biased if biased in splits else plain
  found = _findings(run, rows, plain, biased, seen, why_no_shots, has_shots)
  folder = run.workdir / "report"
  for plot in found.plots.values():
    records.write_bytes(folder / f"{plot.name}.png", plot.light)
    records.write_bytes(folder / f"{plot.name}-dark.png", plot.dark)
  lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
  records.write_text(folder / "results.json", f"[\n{lines}\n]\n")
  records.write_text(folder / "verdict.json", _verdict_json(run, found, plain))
  records.write_text(folder / "results.md", _markdown(found))
  records.write_text(folder / "index.html", _page(run, found, biased))
  return folder / "index.html"


def _findings(
  run: Run,
  rows: Sequence[Record],
  plain: str,
  biased: str,
  seen: Seen | None,
  why_no_shots: str,
  has_shots: bool,
) -> Findings:
  compared = headline(run.base, run.distilled, plain, biased)
  judged = verdict(run.valid, run.base, run.distilled, biased, has_shots)
  table = tables.make(rows, biased)
  reasons = _reasons(run)
  gate = gates.of_run(run)
  return Findings(
    outcome=sentences.outcome(
      compared, judged, bool(run.base and run.distilled), run.task
    ),
    pays=[*filter(None, _pays(judged))],
    kept=[*filter(None, _kept(judged))],
    evidence=evidence.lines(judged),
    changes=decomposition.lines(judged),
    gate=gate,
    headline=compared,
    verdict=judged,
    table=table,
    controls=_controls(run, why_no_shots),
    agreement=agreement(rows),
    valid=tables.make(results(run.valid, run.task, "base"), biased),
    retention=retention(run.retention["base"], run.retention["distilled"]),
    seen=seen,
    read_before=contamination.of_base_model(run.contamination),
    voting=_voting(run),
    choices=_choices(run),
    left_out=too_long.left_out(run),
    not_answered=too_long.not_answered([*run.base, *run.distilled], "test"),
    valid_not_answered=too_long.not_answered(run.valid, "validation"),
    reasons=reasons,
    curation=_curation(run, table.splits, reasons),
    plots={p.name: p for p in _plots(run, table, plain, gate)},
    training=_training(run.finetune),
  )


def _pays(judged: Verdict) -> list[str | None]:
  return [sentences.thinking_pays(judged), sentences.teacher_gain(judged)]


def _kept(judged: Verdict) -> list[str | None]:
  return [sentences.student_gap(judged), decomposition.sentence(judged)]


def _agreement_with_people(run: Run) -> list[Record]:
  """Rows of results.json of a judge, and of people who judged its pairs."""
  if run.task != "judge":
    return []
  judged = dict.fromkeys(row["example_id"] for row in run.base + run.distilled)
  known = run.examples
  return [
    *judges.agreement(run.base, known, run.task, "base"),
    *judges.agreement(run.distilled, known, run.task, "distilled"),
    *judges.people(judged, known, run.task),
  ]


def _controls(run: Run, why_no_shots: str) -> str | None:
  """What the controls cost, and why one of them is not there."""
  of_each = [
    cost(run.base, run.config.get("method", "")),
    cost(run.distilled, ""),
  ]
  found = [one for one in of_each if one is not None]
  said = []
  if found:
    total = functools.reduce(operator.add, found)
    said.append(
      "Of this evaluation the controls (all but System 1 and the distilled"
      f" model asked greedily, and the samples of System 2) took {total}."
    )
  was_asked = any(row["method"] == SHOTS for row in run.base)
  if run.base and why_no_shots and not was_asked:
    said.append(
      f"System 1 was not asked behind worked examples: {why_no_shots}."
    )
  return " ".join(said) or None


def _voting(run: Run) -> str | None:
  """How many samples inputs had; None if all had as many."""
  said = [_allotted(run.voting), _saved(run.voting)]
  return " ".join(filter(None, said)) or None


def _allotted(found: Mapping[str, Any]) -> str:
  """Of the inputs of a later round; empty elsewhere."""
  more, fewer = found.get("more", 0), found.get("fewer", 0)
  if not more and not fewer:
    return ""
  return (
    f"Of {found['inputs']:,} inputs {more:,} might be sampled more often than"
    f" in the first round, as the one before could not decide them, and"
    f" {fewer:,} less often, as it had."
  )


def _saved(found: Mapping[str, Any]) -> str:
  """What stopping early has saved, and how often the full vote agrees."""
  if not found or found["passes"] == found["full"]:
    return ""
  share = 1 - found["passes"] / found["full"]
  text = (
    f"{found['passes']:,} of {found['full']:,} samples were drawn,"
    f" {100 * share:.0f} % saved."
  )
  if found["given_up"]:
    text += (
      f" {found['given_up']:,} of {found['inputs']:,} inputs were never"
      " sampled: after other variants of the same example none could be kept"
      " any more."
    )
  if found["decided_early"]:
    text += (
      f" {found['decided_early']:,} were sampled no further once their vote was"
      f" as good as decided (at {100 * found['confidence']:g} % confidence)."
    )
  if found["confidence"] and found["audited"]:
    text += (
      f" Of {found['audited']:,} inputs sampled in full as a check, the early"
      f" decision agrees with the full vote in {found['agree']:,}."
    )
  return text


def _choices(run: Run) -> str | None:
  """What the model's choices among its replies owe to position and chance."""
  bias = position_bias(run.choices)
  if bias is None:
    return None
  warning = " They are no better than chance." if bias.is_chance else ""
  return f"Of the model's choices, {bias}.{warning}"


def _reasons(run: Run) -> dict[str, str]:
  """The reasons that occur, and what the page calls them."""
  there = run.votes.reasons
  known = {name: called for name, called in _REASONS.items() if name in there}
  return known | {name: name for name in there if name not in known}


def _curation(
  run: Run, order: Sequence[str], reasons: Mapping[str, str]
) -> list[Mapping[str, Any]]:
  """A line a variant, and one for all: what was kept, and why not."""
  counts = run.votes.counts
  there = {outcome.variant for outcome in counts}
  variants = [variant for variant in order if variant in there]
  variants += sorted(there - set(variants))
  lines = []
  for variant in [*variants, None] if counts else []:
    part = {o: n for o, n in counts.items() if variant in (None, o.variant)}
    kept = {o: n for o, n in part.items() if o.reason is None}
    won = {o: n for o, n in part.items() if o.has_winner}
    lines.append(
      {
        "variant": "all" if variant is None else readable(variant),
        "total": sum(part.values()),
        "kept": sum(kept.values()),
        "reasons": {
          reason: sum(n for o, n in part.items() if o.reason == reason)
          for reason in reasons
        },
        "right_kept": share_right(kept),
        "right_won": share_right(won),
      }
    )
  return lines


def share_right(counts: Counts) -> float | None:
  """Share of winners that are right; None where that is not known."""
  if not counts or any(outcome.is_right is None for outcome in counts):
    return None
  right = sum(n for outcome, n in counts.items() if outcome.is_right)
  return right / sum(counts.values())


def _training(lines: Sequence[Record]) -> dict[str, str]:
  """The fine-tune in figures, as far as its lines have them."""
  losses = [line["loss"] for line in lines if line.get("loss") is not None]
  valid = [line for line in lines if line.get("valid_loss") is not None]
  tokens = sum(line.get("target_tokens") or 0 for line in lines)
  found = {}
  if losses:
    found["updates"] = f"{len(losses):,}"
    found["target tokens"] = f"{tokens:,}"
    name = plots.KL if plots.is_on_policy(lines) else "training loss"
    found[name] = f"{losses[0]:.3f} → {losses[-1]:.3f}"
  if valid:
    best = min(valid, key=lambda line: line["valid_loss"])
    first, last = valid[0]["valid_loss"], valid[-1]["valid_loss"]
    found["validation loss"] = f"{first:.3f} → {last:.3f}"
    found["lowest"] = f"{best['valid_loss']:.3f} at step {best['step']:,}"
  return found


def _plots(
  run: Run, table: Table, plain: str, gate: GateReport
) -> list[page.Plot]:
  votes = run.votes.counts
  min_margin = run.setting("curation", "min_margin")
  min_agreement = run.setting("curation", "min_agreement") or 0.0
  curve = threshold_curve(votes, min_agreement)
  wanted: list[tuple[str, str, str, plots.Draw]] = []
  if table.rows and table.is_labelled:
    wanted += [
      (
        "accuracy",
        "Right answers by variant",
        "Held-out inputs, each in every variant.",
        plots.accuracy_by_variant(table),
      ),
      (
        "grid",
        "Who is asked, and how a reply is drawn",
        f"{readable(table.biased)}: the greedy reply, the mean of single"
        " samples, and their vote; on the right the tokens that an answer"
        " takes.",
        plots.grid(table),
      ),
      (
        "tokens",
        "What an answer costs",
        f"Full: {readable(table.biased)}. Hollow: {readable(plain)}. Every"
        " generated token counts, those of all steps and samples.",
        plots.accuracy_by_tokens(table, plain),
      ),
    ]
  if curve:
    unwon = sum(n for outcome, n in votes.items() if not outcome.has_winner)
    wanted += [
      (
        "margins",
        "How clearly the votes were won",
        f"{len(run.votes) - unwon} inputs with a winner; {unwon} without one"
        " are not shown. Labels are used for this analysis only.",
        plots.margins(votes, min_margin),
      ),
      (
        "thresholds",
        "What another threshold would keep",
        "Each point is a minimum margin, with the agreement of this run; the"
        " large one is the margin that was used.",
        plots.thresholds(curve, min_margin),
      ),
    ]
  if gate.worth and gate.worth.is_labelled:
    own = gate.worth
    working = own.tokens, own.over_direct.first
    wanted.append(
      (
        "gate",
        "What thinking now and then buys",
        "Test inputs of all forms. Green: gates of this confidence, from one"
        " that never thinks to one that always does; the cross is the one that"
        " was chosen on validation inputs.",
        plots.gate(own.curve, working, gate.ways),
      )
    )
  if run.finetune:
    wanted.append(
      (
        "training",
        "Fine-tuning",
        "How far the student was from its teacher at the tokens of its own"
        " replies, and the loss on given answers."
        if plots.is_on_policy(run.finetune)
        else "Loss on the target tokens only.",
        plots.training(run.finetune),
      )
    )
  return [
    page.make_plot(name, title, caption, draw)
    for name, title, caption, draw in wanted
  ]


def _page(run: Run, found: Findings, biased: str) -> str:
  counts, shown = changes(run, biased)
  examples = transcripts(run, biased, _MOST_INPUTS)
  browsable = browser.inputs(examples)
  recorded = versions.of_stages(run.done)
  parts = _parts(run, found, bool(shown), bool(examples))
  return page.render(
    "report.html",
    script="examples.js",
    run=run,
    found=found,
    biased=biased,
    parts=parts,
    paper=paper.row_for(run.config) if found.table.is_labelled else None,
    paper_model=paper.MODEL,
    paper_kinds={
      "System 1": tables.DIRECT,
      "System 2": tables.TEACHER,
      "distilled": tables.STUDENT,
    },
    transcripts=examples,
    browsable=browsable,
    votes=len(run.votes),
    browser_data=browser.script_json(
      {"reasons": found.reasons, "inputs": browsable}
    ),
    change_counts=counts,
    changes=shown,
    margin_of=margin_of,
    selection=_SELECTION.get(
      run.setting("curation", "select"), _SELECTION["vote"]
    ),
    contamination=contamination,
    rest=rest,
    gates=gates,
    commands=_commands(run),
    devices={stage: _devices(mark) for stage, mark in run.done.items()},
    settings=settings.overview(run.config),
    config=json.dumps(run.config, indent=2, ensure_ascii=False),
    recorded=bool(recorded),
    versions=recorded or versions.installed(),
  )


def _parts(
  run: Run, found: Findings, has_changes: bool, has_examples: bool
) -> dict[str, str]:
  """The parts of the page: id → its entry in the table of contents."""
  has = {
    ("held-out", "results"): found.table.rows,
    ("people", "agreement with people"): found.agreement.found,
    ("pays", "does thinking pay"): found.pays or found.kept or found.valid.rows,
    ("gate", "the gate"): found.gate,
    ("kept", "what was kept"): found.curation,
    ("training", "training"): run.finetune,
    ("rest", "the rest"): found.retention,
    ("contamination", "contamination"): found.seen,
    ("changes", "before and after"): has_changes,
    ("examples", "examples"): has_examples,
    ("again", "how to run it again"): True,
  }
  return {id_: called for (id_, called), there in has.items() if there}


def _commands(run: Run) -> list[str]:
  """The commands of the run, each once, as far as they were recorded."""
  typed = dict.fromkeys(
    mark["command"] for mark in run.done.values() if mark.get("command")
  )
  bare = f"s2d pipeline --config=CONFIG --workdir={run.workdir.name}"
  return [_folded(command) for command in typed] or [bare]


def _folded(command: str) -> str:
  """A long command on several lines, as a shell takes it."""
  if len(command) <= _LINE:
    return command
  program, stage, *flags = shlex.split(command)
  return " \\\n  ".join([f"{program} {stage}", *map(shlex.quote, flags)])


def _devices(mark: Record) -> str:
  """What a stage was computed on; empty if it was not recorded."""
  found = mark.get("devices")
  if not found:
    return ""
  hosts = found["processes"]
  over = f" over {hosts} processes" if hosts > 1 else ""
  return f"{found['count']} × {found['kind']}{over}, {mark['dtype']}"


def _markdown(found: Findings) -> str:
  parts = ["# Results", found.outcome, rest.harm(found.retention)]
  parts.append(_markdown_table(found.table.lines()))
  parts += [found.not_answered, found.controls]
  if found.agreement.found:
    parts += [
      "## Agreement with people",
      _markdown_table(found.agreement.lines()),
    ]
  if found.pays or found.kept or found.valid.rows:
    parts += ["## Does thinking pay here?", *found.pays, *found.kept]
    parts += [_markdown_table(found.evidence), _markdown_table(found.changes)]
    parts.append(found.valid_not_answered)
    parts.append(_markdown_table(_valid_lines(found)))
  if found.gate:
    parts += ["## The gate", found.gate.sentence]
    parts.append(_markdown_table(gates.lines(found.gate)))
    told = gates.figures(found.gate).items()
    parts.append("\n".join(f"- {name}: {value}" for name, value in told))
  if found.retention:
    parts += ["## What it did to the rest", *rest.sentences(found.retention)]
    parts.append(_markdown_table([rest.HEAD, *rest.lines(found.retention)]))
  if found.seen:
    parts.append("## Test questions seen in training?")
    parts += [contamination.sentence(found.seen), contamination.NOTE]
    parts.append(_markdown_table(contamination.lines(found.seen)))
    parts += found.read_before
  if found.voting or found.choices or found.left_out:
    parts += ["## What was kept", found.voting, found.choices, found.left_out]
  parts += [
    f"![{p.title}]({p.name}.png)\n\n{p.caption}" for p in found.plots.values()
  ]
  return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(lines: Iterable[Sequence[str]]) -> str:
  head, *body = [*lines] or [[]]
  rows = [head, ["---", *["---:"] * (len(head) - 1)], *body]
  return "\n".join("| " + " | ".join(row) + " |" for row in rows if body)


def margin_of(found: Findings, kind: Kind) -> float | None:
  """Mean margin of a vote on the valid split, of this kind of row."""
  margins = found.verdict.margins
  if margins is None:
    return None
  by_kind = {
    Kind("system2", "vote"): margins.first,
    Kind(SYSTEM1, "vote"): margins.second,
  }
  return by_kind.get(kind)


def _valid_lines(found: Findings) -> Iterator[list[str]]:
  head, *body = found.valid.lines()
  yield [*head, "margin of the vote"]
  for row, cells in zip(found.valid.rows, body, strict=True):
    margin = margin_of(found, row.kind)
    yield [*cells, "" if margin is None else f"{margin:.2f}"]


def _verdict_json(run: Run, found: Findings, plain: str) -> str:
  """The sentences, and the comparisons that they are based on."""
  judged = found.verdict
  verdict = {
    "answer": found.outcome,
    "harm": rest.harm(found.retention),
    "pays": next(iter(found.pays), None),
    "kept": next(iter(found.kept), None),
    "details": [*found.pays[1:], *found.kept[1:]],
    "conclusion": judged.conclusion,
    "thinking": _thinking_json(judged.thinking),
    "greedy": _thinking_json(judged.greedy),
    "overall": _thinking_json(judged.overall),
    "split": judged.split,
    "plain": plain,
    "inputs": len(run.votes),
    "accepted": run.votes.kept,
    "gate": gates.as_json(found.gate),
    "comparisons": {
      field.name: _as_json(value)
      for field in dataclasses.fields(judged)
      if isinstance(value := getattr(judged, field.name), Comparison)
    },
    "splits": {name: _as_json(one) for name, one in judged.splits.items()},
    "decomposition": {
      name: dataclasses.asdict(one)
      for name, one in judged.decompositions.items()
    },
    "retention": _retention_json(found.retention),
    "seen_in_training": dataclasses.asdict(found.seen) if found.seen else None,
  }
  return json.dumps(verdict, indent=2, ensure_ascii=False) + "\n"


def _thinking_json(found: Thinking | None) -> Record | None:
  if found is None:
    return None
  return {
    "outcome": found.outcome,
    "reply": found.reply,
    "decisive": str(found.decisive),
    "rivals": {str(way): _as_json(one) for way, one in found.rivals.items()},
  }


def _retention_json(found: Retention) -> Record:
  made = dataclasses.asdict(found)
  for one, answers in zip(made["answers"], found.answers, strict=True):
    one["outcome"] = answers.outcome
  return made | {"sentences": rest.sentences(found)}


def _as_json(found: Comparison) -> Record:
  return dataclasses.asdict(found) | {"outcome": found.outcome}

"""The page of a study: a run and its controls over several seeds.

A row is a model and how it is asked. Figures are means over seeds; what is
tested is the difference of two rows on the examples of all seeds together: of
the controls, and of System 2 and the distilled model from System 1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
import dataclasses
import json
import re
from typing import Any

from etils import epath
import numpy as np

from s2d_jax import records
from s2d_jax.evaluation.controls import SHOTS, SYSTEM1, Way, directly
from s2d_jax.evaluation.paired import Comparison, compare
from s2d_jax.evaluation.results import Score, by_group, methods_of
from s2d_jax.evaluation.thinking import Thinking, thinking
from s2d_jax.evaluation.verdict import Verdict
from s2d_jax.reporting import evidence, gate as gates, page, run_files
from s2d_jax.reporting.gate import GateReport
from s2d_jax.reporting.report import share_right
from s2d_jax.reporting.retention import points, points_within
from s2d_jax.reporting.run_files import Run, mark_of
from s2d_jax.reporting.sentences import inputs_of, percent, thinking_pays
from s2d_jax.reporting.table import DRAWN, WHO, readable
from s2d_jax.trained_controls import CONTROLS

_TOO_LITTLE = "kept too little to learn from"
RUN = "run"  # the config's own, beside its controls
GATED = "gated"  # the run's own with System 2 behind it


def workdir_of(study: epath.Path, seed: int, name: str) -> epath.Path:
  """The workdir of a seed's run or of one of its controls."""
  return study / f"seed{seed}" / name


@dataclasses.dataclass(frozen=True)
class Spread:
  """A figure over seeds: its mean, least and largest value."""

  mean: float
  low: float
  high: float

  @property
  def percent(self) -> str:
    return f"{100 * self.mean:.1f}"

  @property
  def interval(self) -> str:
    """The range; empty for one seed."""
    if self.low == self.high:
      return ""
    return f"{100 * self.low:.0f}–{100 * self.high:.0f}"

  def __str__(self) -> str:
    return (
      f"{self.percent} ({self.interval})" if self.interval else self.percent
    )


@dataclasses.dataclass(frozen=True)
class Row:
  """A model, and how it is asked.

  Attributes:
    name: of a method of the base model, of a control, "run" or "gated".
    label: the head of the row.
    taught: what a student was taught; empty for the base model.
    accuracy: split → right answers; empty where nothing was learnt.
    tokens: generated, mean an answer over all splits.
    kept: share of the train and valid inputs that are taught.
    right: share of what is taught that is right, where labels are texts.
    over_system1: against the base model asked directly, on the biased split.
    over_run: against the run's own distilled model, there.
    seeds: that have figures.
    note: why there are no figures, or not of all seeds.
  """

  name: str
  label: str
  taught: str = ""
  accuracy: Mapping[str, Spread] = dataclasses.field(default_factory=dict)
  tokens: Spread | None = None
  kept: Spread | None = None
  right: Spread | None = None
  over_system1: Comparison | None = None
  over_run: Comparison | None = None
  seeds: Sequence[int] = ()
  note: str = ""

  @property
  def is_distilled(self) -> bool:
    return self.name == RUN or self.name in CONTROLS

  @property
  def short_label(self) -> str:
    """Without the name of the method, which is the same for all."""
    return _short(self.label)

  @property
  def shows(self) -> str:
    """What follows from a control, in a sentence; empty for other rows."""
    return _shows(self)


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two ways to answer on the biased split, over the examples of all seeds."""

  who: str
  against: str
  found: Comparison

  @property
  def short_labels(self) -> tuple[str, str]:
    """Without the name of the method, which is the same for all."""
    return _short(self.who), _short(self.against)


@dataclasses.dataclass(frozen=True)
class Study:
  """All rows: those of the base model, the run, then its controls.

  Attributes:
    config: of the run.
    seeds: whose figures these are.
    splits: the biased one first.
    rows: in the order of the table.
    thinking: System 2 against System 1 over all seeds; None where the votes of
      System 1 are taught.
    pairs: System 2, then the distilled model of the run, against System 1, and
      that model against System 2.
    gates: seed → what is known of the gate of its run.
  """

  config: Mapping[str, Any]
  seeds: Sequence[int]
  splits: Sequence[str]
  rows: Sequence[Row]
  thinking: Thinking | None = None
  pairs: Sequence[Pair] = ()
  gates: Mapping[int, GateReport] = dataclasses.field(default_factory=dict)

  @property
  def biased(self) -> str:
    return self.splits[0]

  @property
  def run(self) -> Row:
    return next(row for row in self.rows if row.name == RUN)

  @property
  def _over(self) -> str:
    seeds = len(self.seeds)
    return f"over {seeds} seeds" if seeds > 1 else f"with seed {self.seeds[0]}"

  @property
  def pays(self) -> str:
    """Whether thinking pays, in a sentence; empty where that is not known."""
    judged = Verdict(self.biased, is_system2=True, thinking=self.thinking)
    found = thinking_pays(judged)
    return f"{found.removesuffix('.')}, {self._over}." if found else ""

  @property
  def answer(self) -> str:
    """What became of the run, in a sentence."""
    gain, over = self.run.over_system1, self._over
    if gain is None:
      return f"A run and its controls {over}."
    certain = {"better": "more often", "worse": "less often"}
    word = certain.get(gain.outcome, "not clearly more often")
    return (
      f"On {inputs_of(self.biased)} the distilled model is right {word} than"
      f" System 1: {percent(gain.first)}, against {percent(gain.second)}"
      f" ({over})."
    )


class _Scores:
  """A row's scores: seed → split → scores by example."""

  def __init__(self) -> None:
    self._found: dict[int, dict[str, Mapping[str, Score]]] = {}

  def add(self, seed: int, split: str, scores: Mapping[str, Score]) -> None:
    self._found.setdefault(seed, {})[split] = scores

  @property
  def seeds(self) -> list[int]:
    return list(self._found)

  @property
  def splits(self) -> list[str]:
    return list(dict.fromkeys(s for one in self._found.values() for s in one))

  def accuracy(self) -> dict[str, Spread]:
    found = {
      split: _spread(
        _mean(s.metrics.get("accuracy") for s in splits[split].values())
        for splits in self._found.values()
        if split in splits
      )
      for split in self.splits
    }
    return {split: spread for split, spread in found.items() if spread}

  def tokens(self) -> Spread | None:
    return _spread(
      _mean(s.tokens for scores in splits.values() for s in scores.values())
      for splits in self._found.values()
    )

  def pooled(self, split: str) -> dict[str, Score]:
    """Of all seeds, by "seed/example".

    A question that several seeds ask stays one cluster: its answers by models
    of one base model are not independent.
    """
    return {
      f"{seed}/{name}": score
      for seed, splits in self._found.items()
      for name, score in splits.get(split, {}).items()
    }


class _Runs:
  """What is read of all runs: scores by row, and what was kept.

  Attributes:
    config: of the run with the last seed.
    base: method of the base model → its scores.
    distilled: "run" or a control → scores of its student, asked directly.
    gated: scores of the run's own behind its gate.
    gates: seed → what is known of that.
    kept: likewise, for each seed the share of inputs and what is right of it.
  """

  def __init__(self) -> None:
    self.config: Mapping[str, Any] = {}
    self.base: dict[str, _Scores] = {}
    self.distilled: dict[str, _Scores] = {}
    self.gated = _Scores()
    self.gates: dict[int, GateReport] = {}
    self.kept: dict[str, list[tuple[float | None, float | None]]] = {}

  def add(self, folder: epath.Path, seed: int, name: str) -> None:
    """Adds one that has ended; it may have kept too little to learn from."""
    if not mark_of(folder, "curate").exists():
      self.kept.setdefault(name, []).append((0.0, None))
      return
    run = run_files.load(folder)
    self.kept.setdefault(name, []).append(kept_and_right(run))
    if name == RUN:
      self.config = run.config
      for (method, split), scores in by_group(run.base).items():
        self.base.setdefault(method, _Scores()).add(seed, split, scores)
      for (_, split), scores in by_group(run.gated).items():
        self.gated.add(seed, split, scores)
      self.gates[seed] = gates.of_run(run)
    groups = by_group(run.distilled)
    if not groups:
      return
    direct = directly(methods_of(groups))
    own = self.distilled.setdefault(name, _Scores())
    for (method, split), scores in groups.items():
      if method == direct:
        own.add(seed, split, scores)


def load(
  workdir: epath.PathLike,
  seeds: Sequence[int],
  controls: Sequence[str],
  same: Collection[str],
  biased: str,
  has_shots: bool = True,
) -> Study:
  """Reads the runs of a study, all of which have ended.

  Args:
    workdir: of the study.
    seeds: whose runs to read.
    controls: names, in the order of the rows.
    same: those of them that are the run itself, and have no workdir.
    biased: the split that the study is about.
    has_shots: whether System 2 has worked examples.
  """
  runs = _Runs()
  for seed in seeds:
    for name in [RUN, *controls]:
      if name not in same:
        runs.add(workdir_of(epath.Path(workdir), seed, name), seed, name)
  splits = sorted(runs.distilled[RUN].splits, key=lambda s: s != biased)
  rows = [_base_row(runs, m, biased) for m in sorted(runs.base, key=_rank)]
  rows.append(_distilled_row(runs, RUN, biased, seeds))
  if runs.gated.seeds:
    rows.append(_gated_row(runs, biased, seeds))
  rows += [
    Row(name, _name(name), note="the run itself")
    if name in same
    else _distilled_row(runs, name, biased, seeds)
    for name in controls
  ]
  return Study(
    runs.config,
    list(seeds),
    splits,
    rows,
    _thinking(runs, biased, has_shots),
    list(_pairs(runs, biased)),
    {seed: found for seed, found in runs.gates.items() if found},
  )


def _system2(runs: _Runs) -> str | None:
  """The method of the run; None where System 1 is its own teacher."""
  method = runs.config.get("method", SYSTEM1)
  return None if method == SYSTEM1 else method


def _thinking(runs: _Runs, biased: str, has_shots: bool) -> Thinking | None:
  groups = {(m, biased): s.pooled(biased) for m, s in runs.base.items()}
  method = _system2(runs)
  return method and thinking(groups, method, biased, has_shots)


def _pairs(runs: _Runs, biased: str) -> Iterator[Pair]:
  """Of those that were asked, and have labels."""
  votes = [str(Way(name, "vote")) for name in (SYSTEM1, SHOTS)]
  system1 = [directly(runs.base), votes[0], str(Way(SHOTS, "greedy")), votes[1]]
  method = _system2(runs)
  system2 = [str(Way(method, d)) for d in ("vote", "greedy")] if method else []
  base = {name: found.pooled(biased) for name, found in runs.base.items()}
  for name in system2:
    yield from _against(_label(name), base.get(name, {}), base, system1)
  student = runs.distilled[RUN].pooled(biased)
  yield from _against(_name(RUN), student, base, [*system1, *system2])


def _against(
  who: str,
  scores: Mapping[str, Score],
  base: Mapping[str, Mapping[str, Score]],
  others: Iterable[str],
) -> Iterator[Pair]:
  for name in others:
    if found := compare(scores, base.get(name, {})):
      yield Pair(who, _label(name), found)


def _base_row(runs: _Runs, method: str, biased: str) -> Row:
  found, run = runs.base[method], runs.distilled[RUN]
  return Row(
    method,
    _label(method),
    seeds=found.seeds,
    accuracy=found.accuracy(),
    tokens=found.tokens(),
    over_run=compare(found.pooled(biased), run.pooled(biased)),
  )


def _distilled_row(
  runs: _Runs, name: str, biased: str, seeds: Sequence[int]
) -> Row:
  taught = CONTROLS[name].taught if name in CONTROLS else ""
  kept, right = map(_spread, zip(*runs.kept[name], strict=True))
  row = Row(name, _name(name), taught, kept=kept, right=right)
  if name not in runs.distilled:
    return dataclasses.replace(row, note=_TOO_LITTLE)
  found, run = runs.distilled[name], runs.distilled[RUN]
  before = runs.base[directly(runs.base)].pooled(biased)
  after = found.pooled(biased)
  lacking = [str(seed) for seed in seeds if seed not in found.seeds]
  return dataclasses.replace(
    row,
    seeds=found.seeds,
    accuracy=found.accuracy(),
    tokens=found.tokens(),
    over_system1=compare(after, before),
    over_run=None if name == RUN else compare(after, run.pooled(biased)),
    note=f"{_TOO_LITTLE} with seed {', '.join(lacking)}" if lacking else "",
  )


def _gated_row(runs: _Runs, biased: str, seeds: Sequence[int]) -> Row:
  found, run = runs.gated, runs.distilled[RUN]
  before = runs.base[directly(runs.base)].pooled(biased)
  lacking = [str(seed) for seed in seeds if seed not in found.seeds]
  return Row(
    GATED,
    f"{WHO['gated']}, {DRAWN['gate']}",
    seeds=found.seeds,
    accuracy=found.accuracy(),
    tokens=found.tokens(),
    over_system1=compare(found.pooled(biased), before),
    over_run=compare(found.pooled(biased), run.pooled(biased)),
    note=f"no gate with seed {', '.join(lacking)}" if lacking else "",
  )


def kept_and_right(run: Run) -> tuple[float | None, float | None]:
  """The share of inputs that is taught, and what is right of it."""
  counts = run.votes.counts
  kept = {one: count for one, count in counts.items() if one.reason is None}
  return run.votes.kept / len(run.votes), share_right(kept)


def _mean(values: Iterable[float | None]) -> float | None:
  known = [float(value) for value in values if value is not None]
  return float(np.mean(known)) if known else None


def _spread(values: Iterable[float | None]) -> Spread | None:
  """None where nothing is known."""
  known = [value for value in values if value is not None]
  return Spread(_mean(known), min(known), max(known)) if known else None


def _rank(method: str) -> tuple[int, int]:
  """System 1, then behind worked examples, then System 2."""
  way = Way.of(method)
  who = (SYSTEM1, SHOTS)
  place = who.index(way.method) if way.method in who else len(who)
  return place, list(DRAWN).index(way.drawn)


def _label(method: str) -> str:
  way = Way.of(method)
  who = WHO.get(way.method, f"{WHO['system2']} ({way.method})")
  return f"{who}, {DRAWN[way.drawn]}"


def _short(label: str) -> str:
  return re.sub(r" \([^)]*\)", "", label)


def _name(name: str) -> str:
  return "Distilled" if name == RUN else f"Distilled, {readable(name)}"


def _shows(row: Row) -> str:
  """Only what its figures say for certain."""
  found = row.over_run
  if found is None or row.name not in CONTROLS:
    return ""
  control = CONTROLS[row.name]
  if found.outcome in ("better", "worse"):
    words = control.if_better if found.outcome == "better" else control.if_worse
  elif found.outcome == "no better" and found.is_level:
    words = control.if_level
  else:
    words = (
      f"unclear, as the difference is {points(found.gain.low)} to"
      f" {points(found.gain.high)} points ({found.n} answers)"
    )
  return (
    f"Taught {control.taught}: {percent(found.first)}, against"
    f" {percent(found.second)} of the run; {words}."
  )


def difference(found: Comparison | None) -> str:
  """In points with its interval, as text."""
  if found is None:
    return "–"
  return points_within(found.gain)


def lines(found: Study) -> Iterator[list[str]]:
  """The table as text, the head first."""
  splits = list(map(readable, found.splits))
  yield ["% right", *splits, "tokens", "kept", "right of it",
         "over System 1", "over the run"]  # fmt: skip
  for row in found.rows:
    shares = [str(row.accuracy.get(split, "–")) for split in found.splits]
    label = f"{row.label} ({row.note})" if row.note else row.label
    tokens = f"{row.tokens.mean:.1f}" if row.tokens else "–"
    kept, right = (f"{s.percent}" if s else "–" for s in (row.kept, row.right))
    tests = map(difference, (row.over_system1, row.over_run))
    yield [label, *shares, tokens, kept, right, *tests]


def narrow_lines(found: Study) -> Iterator[list[str]]:
  """The table in 80 columns: means, their range on the first split alone."""
  first, *others = found.splits
  heads = [readable(split).replace(" ", "\n") for split in found.splits]
  yield ["% right", *heads, "over the run"]
  for row in found.rows:
    shares = [row.accuracy.get(split) for split in others]
    means = ["–" if share is None else share.percent for share in shares]
    spread = str(row.accuracy.get(first, "–"))
    yield [row.short_label, spread, *means, difference(row.over_run)]


def pair_lines(found: Study) -> list[list[str]]:
  """The pairs as text, the head first; empty without any."""
  rows = [evidence.row(one.who, one.against, one.found) for one in found.pairs]
  return [list(evidence.HEAD), *rows] if rows else []


def narrow_pair_lines(found: Study) -> Iterator[list[str]]:
  """The pairs in 80 columns."""
  yield ["who", "against", "points", "finding"]
  for one in found.pairs:
    yield [*one.short_labels, difference(one.found), one.found.outcome]


def gate_lines(found: Study) -> list[list[str]]:
  """The gate of each seed as text, the head first; empty without any."""
  rows = [
    [
      str(seed),
      one.signal,
      f"{100 * own.thought:.0f}",
      f"{own.tokens:.1f}",
      f"{100 * own.over_direct.first:.0f}",
      f"{100 * own.over_direct.second:.0f}",
      f"{100 * own.over_vote.second:.0f}",
      gates.auroc(own.right),
      gates.auroc(own.agreeing),
      own.outcome,
    ]
    for seed, one in found.gates.items()
    if (own := one.worth)
  ]
  head = ["seed", "confidence", "% thought about", "tokens", "% right"]
  head += ["direct", "vote", "AUROC: right", "AUROC: the vote’s", "finding"]
  return [head, *rows] if rows else []


def write(found: Study, workdir: epath.PathLike) -> epath.Path:
  """Writes study/ of the workdir; returns the path of its page."""
  folder = epath.Path(workdir) / "study"
  records.write_text(folder / "study.json", _as_json(found))
  records.write_text(folder / "study.md", _as_markdown(found))
  path = folder / "index.html"
  text = page.render(
    "study.html",
    study=found,
    controls=CONTROLS,
    pairs=pair_lines(found),
    gates=gate_lines(found),
  )
  records.write_text(path, text)
  return path


def _as_json(found: Study) -> str:
  values = dataclasses.asdict(found)
  del values["config"], values["thinking"]
  values["answer"], values["pays"] = found.answer, found.pays
  values["gates"] = {s: gates.as_json(one) for s, one in found.gates.items()}
  for value, pair in zip(values["pairs"], found.pairs, strict=True):
    value["found"]["outcome"] = pair.found.outcome
  for value, row in zip(values["rows"], found.rows, strict=True):
    value["shows"] = row.shows
    for name in ("over_system1", "over_run"):
      test = getattr(row, name)
      if test is not None:
        value[name]["outcome"] = test.outcome
  return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _as_markdown(found: Study) -> str:
  shown = "\n".join(f"- {row.shows}" for row in found.rows if row.shows)
  pairs = markdown_table(pair_lines(found))
  gated = markdown_table(gate_lines(found))
  rows = markdown_table(lines(found))
  parts = [found.answer, rows, found.pays, pairs, gated, shown]
  return "\n\n".join(filter(None, parts)) + "\n"


def markdown_table(lines: Iterable[Sequence[str]]) -> str:
  """In Markdown, the head first; empty without lines."""
  head, *body = list(lines) or [()]
  table = [head, ["---", *["---:"] * (len(head) - 1)], *body] if head else []
  return "\n".join("| " + " | ".join(line) + " |" for line in table)

"""The plots of the report, each in a light and a dark theme."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import io

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from s2d_jax.curation.curve import Counts, Point
from s2d_jax.gate.curve import Curve
from s2d_jax.records import Record
from s2d_jax.reporting.table import DRAWN, WHO, Cell, Kind, Table, readable

_WIDTH, HEIGHT = 4.7, 3.2  # inches: letters that can be read on a telephone
_DPI = 190
_MARKED = 30  # points of a curve, each with a dot
_NAME = 20  # letters of a run's name
_LEGEND = 52  # letters that stand in one line
_LABEL = 0.18  # of the points' width: a label's


@dataclasses.dataclass(frozen=True)
class Theme:
  """Colours; `who` by who is asked, told apart by the colour-blind too."""

  surface: str
  ink: str
  muted: str
  grid: str
  who: dict[str, str]
  right: str
  wrong: str
  runs: tuple[str, ...]  # of a page that compares runs


LIGHT = Theme(
  surface="#ffffff",
  ink="#1f1e1b",
  muted="#6d685f",
  grid="#e6e2da",
  who={
    "system1": "#8d877c",
    "system1_shots": "#b08a1e",
    "system2": "#1f6aa5",
    "distilled": "#c9501a",
    "gated": "#2c8059",
  },
  right="#1f6aa5",
  wrong="#e39a6b",
  runs=("#1f6aa5", "#c9501a", "#2c8059", "#8a4fa3", "#9a7413", "#6d685f"),
)
DARK = Theme(
  surface="#201f1c",
  ink="#ece8e1",
  muted="#a49d92",
  grid="#3a3732",
  who={
    "system1": "#9c958a",
    "system1_shots": "#d9b552",
    "system2": "#8fc3ee",
    "distilled": "#f2874d",
    "gated": "#6cc39a",
  },
  right="#6fabd9",
  wrong="#c4703d",
  runs=("#8fc3ee", "#f2874d", "#6cc39a", "#cf9be6", "#d9b552", "#a49d92"),
)
# By how a reply is drawn, and the size at which they look alike.
_MARKERS = {
  "greedy": ("o", 6.0),
  "sample": ("D", 5.0),
  "nested": ("^", 6.0),
  "vote": ("s", 5.5),
  "gate": ("P", 6.5),
}
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))

Draw = Callable[[Axes, Theme], None]
Way = tuple[Kind, float, float]  # of answering, its tokens and accuracy


class _Shares(MaxNLocator):
  """Round ticks from 0 to 1: an axis that is wider shows no 105 %."""

  def __init__(self):
    super().__init__(6, steps=[1, 2, 5, 10])

  def tick_values(self, vmin: float, vmax: float):
    ticks = super().tick_values(max(vmin, 0.0), min(vmax, 1.0))
    return [tick for tick in ticks if -1e-9 <= tick <= 1 + 1e-9]


def _percent(share: float, position: int | None = None) -> str:
  """A tick's label: ticks are round, so no decimal is one too many."""
  del position
  return f"{abs(round(100 * share, 4)):g} %"  # without a sign before 0


def render(draw: Draw, theme: Theme, height: float = HEIGHT) -> bytes:
  """A plot as PNG, `height` in inches; the same data give the same bytes."""
  style = {
    "axes.edgecolor": theme.grid,
    "axes.labelcolor": theme.muted,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "grid.color": theme.grid,
    "legend.frameon": False,
    "text.color": theme.ink,
    "text.parse_math": False,  # a name may hold a dollar sign
    "xtick.color": theme.muted,
    "ytick.color": theme.muted,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
  }
  with matplotlib.rc_context(style):
    figure = Figure(
      (_WIDTH, height), layout="constrained", facecolor=theme.surface
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.surface)
    draw(axes, theme)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
  return png.getvalue()


def accuracy_by_variant(table: Table) -> Draw:
  """Dots with 95 % intervals, a band for each variant."""

  def draw(axes: Axes, theme: Theme) -> None:
    rows = table.main
    step = 0.72 / max(len(rows), 1)
    for index, row in enumerate(rows):
      offset = (index - (len(rows) - 1) / 2) * step
      marker, size = _MARKERS[row.kind.drawn]
      places = [i for i, s in enumerate(table.splits) if s in row.accuracy]
      cells = [row.accuracy[table.splits[i]] for i in places]
      axes.errorbar(
        [cell.value for cell in cells],
        [place + offset for place in places],
        xerr=_error_bars(cells),
        fmt=marker,
        markersize=size,
        elinewidth=1.6,
        color=theme.who[row.kind.who],
        label=row.label,
      )
    _rows_of_shares(axes, theme, list(map(readable, table.splits)))

  return draw


def grid(table: Table) -> Draw:
  """A band for who is asked, in it a dot a way of drawing, with its tokens."""
  there = dict.fromkeys(row.kind.who for row in table.rows)
  ways = [way for way in DRAWN if way in {r.kind.drawn for r in table.rows}]

  def draw(axes: Axes, theme: Theme) -> None:
    step = 0.62 / max(len(ways), 1)
    for row in table.rows:
      cell = row.accuracy.get(table.biased)
      if cell is None:
        continue
      marker, size = _MARKERS[row.kind.drawn]
      offset = (ways.index(row.kind.drawn) - (len(ways) - 1) / 2) * step
      place = list(there).index(row.kind.who) + offset
      axes.errorbar(
        [cell.value],
        [place],
        xerr=_error_bars([cell]),
        fmt=marker,
        markersize=size,
        elinewidth=1.6,
        color=theme.who[row.kind.who],
      )
      axes.annotate(
        f"{cell.tokens:,.0f}",
        (1.0, place),
        (6, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=theme.muted,
      )
    axes.annotate(
      "tokens",
      (1.0, -0.5),
      (6, 5),
      xycoords=("axes fraction", "data"),
      textcoords="offset points",
      fontsize=8,
      color=theme.muted,
      annotation_clip=False,
    )
    for way in ways:
      marker, size = _MARKERS[way]
      axes.plot(
        [], [], marker, markersize=size, color=theme.muted, label=DRAWN[way]
      )
    _rows_of_shares(axes, theme, [WHO[who] for who in there])

  return draw


def accuracy_by_tokens(table: Table, plain: str) -> Draw:
  """Accuracy against tokens: full dots are biased, hollow ones plain."""

  def draw(axes: Axes, theme: Theme) -> None:
    for row in table.main:
      colour = theme.who[row.kind.who]
      marker, size = _MARKERS[row.kind.drawn]
      for split, fill in ((plain, theme.surface), (table.biased, colour)):
        cell = row.accuracy.get(split)
        if cell is None:
          continue
        axes.errorbar(
          max(cell.tokens, 1),
          cell.value,
          yerr=_error_bars([cell]),
          fmt=marker,
          markersize=1.4 * size,
          markerfacecolor=fill,
          elinewidth=1.2 if split == table.biased else 0,
          color=colour,
          label=row.label if split == table.biased else "",
        )
    axes.set_xscale("log")
    axes.margins(x=0.25)
    _log_ticks(axes)
    _all_shares(axes.yaxis)
    axes.set_xlabel("tokens an answer")
    axes.set_ylabel("right answers")
    axes.grid()
    _legend(axes, handletextpad=0.1)  # models that cost the same may be alike

  return draw


def gate(
  curve: Curve,
  working: tuple[float, float],
  ways: Sequence[Way],
) -> Draw:
  """Accuracy against tokens: all gates of a confidence, and other ways.

  Args:
    curve: from never to always thinking; its chord is thinking at random.
    working: tokens and accuracy of the gate that is used.
    ways: with which it is compared.
  """

  def draw(axes: Axes, theme: Theme) -> None:
    colour = theme.who["gated"]
    ends = [curve.tokens[0], curve.tokens[-1]]
    axes.plot(
      ends,
      [curve.accuracy[0], curve.accuracy[-1]],
      color=theme.muted,
      linewidth=1.2,
      linestyle=(0, (3, 3)),
      label="thinking at random",
    )
    axes.plot(
      curve.tokens, curve.accuracy, color=colour, linewidth=1.8, label="gates"
    )
    _ways(axes, theme, ways)
    marker, size = _MARKERS["gate"]
    axes.plot(
      *working, marker, markersize=1.8 * size, color=colour, label="this gate"
    )
    axes.margins(x=0.06, y=0.15)
    axes.set_xlim(left=0)
    _right_by_tokens(axes)

  return draw


def internalisation(
  stages: Sequence[tuple[str, float, float]],
  direct: tuple[float, float] | None,
  ways: Sequence[Way],
) -> Draw:
  """Accuracy against tokens: a student of each stage, and other ways.

  Args:
    stages: how much of a thought is taught, tokens, accuracy.
    direct: tokens and accuracy of the control; None where there is none.
    ways: of the base model.
  """

  def draw(axes: Axes, theme: Theme) -> None:
    colour = theme.who["distilled"]
    marker, size = _MARKERS["greedy"]
    _, tokens, accuracies = zip(*stages, strict=True)
    axes.plot(
      tokens,
      accuracies,
      f"-{marker}",
      markersize=1.4 * size,
      linewidth=1.6,
      color=colour,
      label="stages, by tokens of thought taught",
    )
    for name, *at in stages:
      axes.annotate(
        name, at, (0, 8), textcoords="offset points", ha="center", fontsize=8
      )
    if direct:
      axes.plot(
        *direct,
        "X",
        markersize=1.4 * size,
        color=theme.who["gated"],
        label="answers alone",
      )
    _ways(axes, theme, ways)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.2)
    _log_ticks(axes)
    _right_by_tokens(axes)

  return draw


def _ways(axes: Axes, theme: Theme, ways: Sequence[Way]) -> None:
  """A dot each."""
  for kind, tokens, accuracy in ways:
    marker, size = _MARKERS[kind.drawn]
    axes.plot(
      tokens,
      accuracy,
      marker,
      markersize=1.4 * size,
      color=theme.who[kind.who],
      label=f"{WHO[kind.who]}, {DRAWN[kind.drawn]}",
    )


def _right_by_tokens(axes: Axes) -> None:
  """The axes of right answers against tokens."""
  axes.yaxis.set_major_locator(_Shares())
  axes.yaxis.set_major_formatter(_percent)
  axes.set_xlabel("tokens an answer")
  axes.set_ylabel("right answers")
  axes.grid()
  _legend(axes, handletextpad=0.3)


def _log_ticks(axes: Axes) -> None:
  """Whole numbers of tokens along a logarithmic axis."""
  left, right = axes.get_xlim()
  ticks = [m * 10**e for e in range(7) for m in (1, 2, 5)]
  ticks = [tick for tick in ticks if left <= tick <= right]
  axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
  axes.minorticks_off()


def margins(counts: Counts, min_margin: float | None) -> Draw:
  """How clearly the votes were won, and whether rightly where that is known."""
  won = {
    outcome: count
    for outcome, count in counts.items()
    if outcome.has_winner and outcome.margin is not None
  }
  places = sorted({outcome.margin for outcome in won})
  gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
  width = 0.8 * min(gaps, default=0.2)

  def draw(axes: Axes, theme: Theme) -> None:
    if any(outcome.is_right is None for outcome in won):
      parts = [("inputs", theme.right, None)]
    else:
      parts = [("right", theme.right, True), ("wrong", theme.wrong, False)]
    bottom = [0] * len(places)
    for label, colour, is_right in parts:
      heights = collections.Counter()
      for outcome, count in won.items():
        heights[outcome.margin] += count * (outcome.is_right is is_right)
      heights = [heights[place] for place in places]
      axes.bar(places, heights, width, bottom, color=colour, label=label)
      bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    if min_margin is not None and places:
      axes.axvline(
        _border(places, min_margin, width),
        color=theme.ink,
        linewidth=1.2,
        linestyle=(0, (3, 3)),
        label=f"kept from {min_margin:g}",
      )
    axes.set_xlabel("margin of the vote")
    axes.set_ylabel("inputs")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y")
    _legend(axes)

  return draw


def thresholds(curve: Sequence[Point], min_margin: float | None) -> Draw:
  """Precision against the share kept; without labels the margin instead."""
  known = all(point.precision is not None for point in curve)
  ends = (curve[0], curve[-1])

  def draw(axes: Axes, theme: Theme) -> None:
    xs = [point.share for point in curve]
    ys = [p.precision if known else p.margin for p in curve]
    axes.plot(xs, ys, "-o", color=theme.right, markersize=5, linewidth=1.6)
    chosen = next((p for p in curve if p.margin >= (min_margin or 0)), None)
    wanted = [chosen] if chosen else []
    wanted += [*ends, *(curve if len(curve) <= 6 else ())]
    told = _apart(wanted, _LABEL * (max(xs) - min(xs)))
    for point, y in zip(curve, ys, strict=True):
      if point is chosen:
        axes.plot(
          point.share, y, "o", markersize=11, color=theme.who["distilled"]
        )
      if point in told:
        axes.annotate(
          f"≥ {point.margin:.2g}",
          (point.share, y),
          (0, 8),
          textcoords="offset points",
          ha="center",
          color=theme.ink if point is chosen else theme.muted,
        )
    axes.margins(x=0.12, y=0.2)
    # Space for the labels beside and above the points, but no share above one.
    axes.xaxis.set_major_locator(_Shares())
    axes.xaxis.set_major_formatter(_percent)
    axes.set_xlabel("inputs kept")
    axes.set_ylabel("right among the kept" if known else "min_margin")
    axes.yaxis.set_major_locator(_Shares())
    if known:
      axes.yaxis.set_major_formatter(_percent)
    axes.grid()

  return draw


def _apart(wanted: Sequence[Point], distance: float) -> list[Point]:
  """Those whose labels do not overlap, the first where two would."""
  found: list[Point] = []
  for point in wanted:
    if all(abs(point.share - other.share) >= distance for other in found):
      found.append(point)
  return found


KL = "KL(student || teacher)"  # what a loss is called that is one


def is_on_policy(lines: Sequence[Record]) -> bool:
  """Whether a fine-tune learnt from its own replies: its loss is a KL then."""
  return any("reply_tokens" in line for line in lines)


def training(lines: Sequence[Record]) -> Draw:
  """Loss of each step, and of the valid split now and then."""
  labels = "training", "validation"
  if is_on_policy(lines):
    labels = KL, "validation: given answers"

  def draw(axes: Axes, theme: Theme) -> None:
    for name, label, style, colour in (
      ("loss", labels[0], "-", theme.who["system2"]),
      ("valid_loss", labels[1], "-o", theme.who["distilled"]),
    ):
      found = [(r["step"], r[name]) for r in lines if r.get(name) is not None]
      if found:
        steps, losses = zip(*found, strict=True)
        axes.plot(steps, losses, style, color=colour, label=label, markersize=5)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("step")
    of = "token" if is_on_policy(lines) else "target token"
    axes.set_ylabel(f"loss, nats a {of}")
    axes.grid(axis="y")
    _legend(axes)

  return draw


def accuracy_by_run(
  names: Sequence[str], cells: Mapping[str, Sequence[Cell | None]]
) -> Draw:
  """Dots with 95 % intervals, a band for each run.

  Args:
    names: of the runs, from above.
    cells: who is asked → its cell in each run.
  """

  def draw(axes: Axes, theme: Theme) -> None:
    step = 0.6 / max(len(cells), 1)
    for index, (who, by_run) in enumerate(cells.items()):
      offset = (index - (len(cells) - 1) / 2) * step
      there = [(place, cell) for place, cell in enumerate(by_run) if cell]
      axes.errorbar(
        [cell.value for _, cell in there],
        [place + offset for place, _ in there],
        xerr=_error_bars([cell for _, cell in there]),
        fmt="o",
        markersize=5.5,
        elinewidth=1.6,
        color=theme.who[who],
        label=WHO[who],
      )
    _rows_of_shares(axes, theme, list(map(_short, names)))

  return draw


def curves_by_run(
  curves: Mapping[str, Sequence[Record]], name: str, label: str
) -> Draw:
  """A curve of metrics/finetune.jsonl for each run.

  Args:
    curves: name of a run → its lines.
    name: of the value in a line.
    label: of the axis.
  """

  def draw(axes: Axes, theme: Theme) -> None:
    for index, (run, lines) in enumerate(curves.items()):
      found = [(r["step"], r[name]) for r in lines if r.get(name) is not None]
      if found:
        steps, values = zip(*found, strict=True)
        round_, place = divmod(index, len(theme.runs))
        axes.plot(
          steps,
          values,
          marker="o" if len(steps) <= _MARKED else "",
          markersize=4,
          color=theme.runs[place],
          linestyle=_DASHES[round_ % len(_DASHES)],
          label=_short(run),
        )
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.grid(axis="y")
    _legend(axes)

  return draw


def _short(name: str) -> str:
  """The end of a run's name, which tells it from the others."""
  return name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"


def _rows_of_shares(axes, theme, names: list[str]) -> None:
  """A named row each, with shares of right answers along it."""
  for edge in range(1, len(names)):
    axes.axhline(edge - 0.5, color=theme.grid, linewidth=0.8)
  axes.set_yticks(range(len(names)), names)
  axes.set_ylim(len(names) - 0.5, -0.5)
  axes.tick_params(axis="y", labelcolor=theme.ink)
  _all_shares(axes.xaxis)
  axes.set_xlabel("right answers, with 95 % interval")
  axes.grid(axis="x")
  axes.spines["left"].set_visible(False)
  _legend(axes, handletextpad=0.1)


def _all_shares(axis: Axis) -> None:
  """From 0 to 1, with space for a dot at either end."""
  set_limits = getattr(axis.axes, f"set_{axis.axis_name}lim")
  set_limits(-0.02, 1.02)
  axis.set_major_locator(_Shares())
  axis.set_major_formatter(_percent)


def _legend(axes: Axes, **spacing: float) -> None:
  """Above the plot, where it hides nothing."""
  handles, labels = axes.get_legend_handles_labels()
  axes.figure.legend(
    handles,
    labels,
    loc="outside upper center",
    ncols=4 if sum(map(len, labels)) < _LEGEND else 2,
    fontsize=8.5,
    columnspacing=1.0,
    **spacing,
  )


def _border(places: Sequence[float], threshold: float, width: float) -> float:
  """Between the last bar below the threshold and the first one kept."""
  below = [place for place in places if place < threshold]
  kept = [place for place in places if place >= threshold]
  left = below[-1] if below else kept[0] - width if kept else threshold
  right = kept[0] if kept else left + width
  return (left + right) / 2


def _error_bars(cells) -> list[list[float]]:
  return [
    [cell.value - cell.low for cell in cells],
    [cell.high - cell.value for cell in cells],
  ]

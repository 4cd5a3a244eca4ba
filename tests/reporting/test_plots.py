from __future__ import annotations

import collections
import dataclasses
import itertools

from matplotlib.figure import Figure
import pytest

from s2d_jax.curation.curve import Outcome, Point, threshold_curve
from s2d_jax.reporting import plots
from s2d_jax.reporting.table import Cell, Kind, Row, Table


def axes_of(draw):
  axes = Figure().add_subplot()
  draw(axes, plots.LIGHT)
  return axes


def votes(is_labelled=True):
  return collections.Counter(
    Outcome(
      "plain",
      None,
      winner is not None,
      margin,
      1.0,
      winner == "right" if is_labelled else None,
    )
    for winner, margin in (
      ("right", 1.0),
      ("right", 0.6),
      ("wrong", 0.6),
      ("wrong", 0.2),
      (None, 0.0),
    )
  )


def heights(axes):
  return {
    bars.get_label(): [(bar.get_height(), bar.get_y()) for bar in bars]
    for bars in axes.containers
  }


def test_bars_are_counts_of_right_and_wrong_on_top_of_each_other():
  axes = axes_of(plots.margins(votes(), 0.4))
  assert heights(axes) == {
    "right": [(0, 0), (1, 0), (1, 0)],
    "wrong": [(1, 0), (1, 1), (0, 1)],
  }
  assert list(heights(axes_of(plots.margins(votes(False), 0.4)))) == ["inputs"]


@pytest.mark.parametrize(
  "min_margin, between",
  [(0.0, (0, 0.2)), (0.4, (0.2, 0.6)), (0.6, (0.2, 0.6)), (0.9, (0.6, 1.0))],
)
def test_the_border_parts_kept_from_rejected_bars(min_margin, between):
  (line,) = axes_of(plots.margins(votes(), min_margin)).lines
  assert between[0] < line.get_xdata()[0] < between[1]


def test_points_of_the_curve():
  curve = threshold_curve(votes(), 0.0)
  line, chosen = axes_of(plots.thresholds(curve, 0.4)).lines
  assert list(line.get_xdata()) == [4 / 5, 3 / 5, 1 / 5]
  assert list(line.get_ydata()) == [2 / 4, 2 / 3, 1.0]
  assert (chosen.get_xdata()[0], chosen.get_ydata()[0]) == (3 / 5, 2 / 3)


def test_the_curve_without_labels_shows_the_margin():
  curve = [Point(0.2, 4, 0.8, None), Point(0.6, 2, 0.4, None)]
  line, _ = axes_of(plots.thresholds(curve, 0.2)).lines
  assert list(line.get_ydata()) == [0.2, 0.6]


def test_training_curve_leaves_out_what_a_line_lacks():
  lines = [
    {"step": 0, "valid_loss": 2.0},
    {"step": 1, "loss": 1.9},
    {"step": 2, "loss": 1.5, "valid_loss": 1.6},
  ]
  training, valid = axes_of(plots.training(lines)).lines
  assert list(training.get_xdata()) == [1, 2]
  assert list(valid.get_ydata()) == [2.0, 1.6]


def test_a_loss_that_is_a_divergence_is_called_so():
  lines = [
    {"step": 0, "valid_loss": 2.0},
    {"step": 1, "loss": 0.3, "reply_tokens": 4.0},
    {"step": 2, "loss": 0.1, "reply_tokens": 3.0, "valid_loss": 1.6},
  ]
  axes = axes_of(plots.training(lines))
  assert [line.get_label() for line in axes.lines] == [
    "KL(student || teacher)",
    "validation: given answers",
  ]
  assert axes.get_ylabel() == "loss, nats a token"
  given = [{"step": 1, "loss": 0.3, "valid_loss": 0.4}]
  axes = axes_of(plots.training(given))
  assert [line.get_label() for line in axes.lines] == ["training", "validation"]


def test_the_same_data_give_the_same_bytes():
  draw = plots.margins(votes(), 0.4)
  light = plots.render(draw, plots.LIGHT)
  assert light == plots.render(draw, plots.LIGHT)
  assert light != plots.render(draw, plots.DARK)


def test_no_share_above_all_is_on_an_axis():
  curve = [Point(0.2, 10, 1.0, 0.995), Point(1.0, 9, 0.9, 1.0)]
  for margin in (0.2, 1.0):
    axes = axes_of(plots.thresholds(curve, margin))
    for axis in (axes.xaxis, axes.yaxis):
      ticks = axis.get_major_locator()()
      assert len(ticks) >= 2 and max(ticks) <= 1 and min(ticks) >= 0


@pytest.mark.parametrize(
  "lowest, highest, labels",
  [
    (0, 1, ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]),
    (0.9, 1, ["88 %", "90 %", "92 %", "94 %", "96 %", "98 %", "100 %"]),
    (0.995, 1, ["99.4 %", "99.6 %", "99.8 %", "100 %"]),
    (
      0.9996,
      1,
      ["99.95 %", "99.96 %", "99.97 %", "99.98 %", "99.99 %", "100 %"],
    ),
    (0.7, 0.71, ["69.5 %", "70 %", "70.5 %", "71 %", "71.5 %"]),
    (1, 1, ["92 %", "94 %", "96 %", "98 %", "100 %"]),
    (0, 0, ["0 %", "2 %", "4 %", "6 %", "8 %"]),
  ],
)
def test_a_share_has_the_decimals_that_tell_ticks_apart(
  lowest, highest, labels
):
  curve = [Point(0.2, 10, 1.0, lowest), Point(1.0, 9, 0.9, highest)]
  axis = axes_of(plots.thresholds(curve, 0.2)).yaxis
  told = axis.get_major_formatter().format_ticks(axis.get_major_locator()())
  assert told == labels


def grid_row(who, drawn, value):
  cell = Cell(value, value - 0.1, value + 0.1, 10.0)
  accuracy = {"plain": cell, "wrong": cell}
  return Row(Kind(who, drawn), accuracy, None, None, None, None, 10.0, None)


GRID = Table(
  splits=("plain", "wrong"),
  biased="wrong",
  rows=tuple(
    grid_row(who, drawn, value)
    for who, drawn, value in (
      ("system1", "greedy", 0.2),
      ("system1", "vote", 0.3),
      ("system1_shots", "sample", 0.4),
      ("system2", "greedy", 0.5),
      ("system2", "sample", 0.6),
      ("system2", "vote", 0.7),
      ("distilled", "greedy", 0.8),
    )
  ),
  is_labelled=True,
)


def test_the_grid_has_a_band_for_who_is_asked_and_a_dot_a_way_of_drawing():
  axes = axes_of(plots.grid(GRID))
  dots = [bars.lines[0] for bars in axes.containers]
  assert [dot.get_xdata()[0] for dot in dots] == [
    row.accuracy["wrong"].value for row in GRID.rows
  ]
  bands = [round(dot.get_ydata()[0]) for dot in dots]
  assert bands == [0, 0, 1, 2, 2, 2, 3]
  markers = {dot.get_marker(): dot.get_ydata()[0] % 1 for dot in dots[3:6]}
  assert len(markers) == len(set(markers.values())) == 3
  told = [text.get_text() for text in axes.get_yticklabels()]
  assert told == ["System 1", "System 1 few-shot", "System 2", "Distilled"]


def test_pictures_of_every_variant_show_few_rows():
  """The greedy answer of each, or a sample where there is none."""
  assert [row.label for row in GRID.main] == [
    "System 1, greedy",
    "System 1 few-shot, one sample",
    "System 2, greedy",
    "System 2, vote",
    "Distilled, greedy",
  ]
  axes = axes_of(plots.accuracy_by_variant(GRID))
  assert [bars.get_label() for bars in axes.containers] == [
    row.label for row in GRID.main
  ]


def drawn(draw):
  """The plot as it is rendered, and where its texts stand."""
  figure = Figure((4.7, 3.2), layout="constrained")
  axes = figure.add_subplot()
  draw(axes, plots.LIGHT)
  figure.draw_without_rendering()
  texts = [text for text in axes.texts if text.get_text()]
  texts += [t for legend in figure.legends for t in legend.get_texts()]
  return axes, {text.get_text(): text.get_window_extent() for text in texts}


def assert_apart(boxes):
  for one, other in itertools.combinations(boxes, 2):
    assert not one.overlaps(other)


def test_labels_of_models_that_share_a_point_do_not_overlap():
  cell = Cell(0.6, 0.5, 0.7, 10.0)
  same = {"plain": cell, "wrong": cell}
  rows = [dataclasses.replace(row, accuracy=same) for row in GRID.rows]
  table = dataclasses.replace(GRID, rows=tuple(rows))
  axes, labels = drawn(plots.accuracy_by_tokens(table, "plain"))
  assert list(labels) == [row.label for row in table.main]
  assert_apart(labels.values())
  # Every point, with its interval, lies in the axes.
  assert_apart([axes.bbox, *labels.values()])
  for box in labels.values():
    assert box.x0 >= 0 and box.x1 <= axes.figure.bbox.x1


@pytest.mark.parametrize("margin", [0.2, 0.4, 0.6, 0.8, 1.0])
@pytest.mark.parametrize(
  "shares", [(1.0, 0.99, 0.98, 0.6, 0.3), (1.0, 0.8, 0.6, 0.4, 0.2)]
)
def test_labels_of_thresholds_do_not_overlap(shares, margin):
  margins = (0.2, 0.4, 0.6, 0.8, 1.0)
  curve = [
    Point(own, 10, share, 0.7)
    for own, share in zip(margins, shares, strict=True)
  ]
  axes, labels = drawn(plots.thresholds(curve, margin))
  assert f"≥ {margin:g}" in labels  # the one that was used
  assert len(labels) == (5 if shares[1] == 0.8 else 3)
  assert_apart(labels.values())
  for point in curve:
    at = axes.transData.transform((point.share, 0.7))
    assert not any(box.contains(*at) for box in labels.values())


def test_runs_on_one_picture():
  cell = Cell(0.5, 0.4, 0.6, 10.0)
  ways = {"system1": [cell, cell], "system2": [None, cell]}
  axes = axes_of(plots.accuracy_by_run(["a", "b"], ways))
  system1, vote = axes.containers
  assert list(system1.lines[0].get_xdata()) == [0.5, 0.5]
  assert len(vote.lines[0].get_xdata()) == 1
  assert 0.5 < vote.lines[0].get_ydata()[0] < 1.5
  curves = {
    f"run {index}": [{"step": 1, "loss": 2.0}, {"step": 2}]
    for index in range(7)
  }
  lines = axes_of(plots.curves_by_run(curves, "loss", "loss")).lines
  assert [line.get_label() for line in lines] == list(curves)
  styles = {(line.get_color(), line.get_linestyle()) for line in lines}
  assert len(styles) == 7

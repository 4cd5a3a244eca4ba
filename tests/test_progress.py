from __future__ import annotations

import itertools
import re
import types

import pytest

from s2d_jax import progress
from s2d_jax.progress import Progress


@pytest.fixture
def clock(monkeypatch):
  """A clock that goes when it is told to."""
  clock = types.SimpleNamespace(now=1000.0)
  time = types.SimpleNamespace(monotonic=lambda: clock.now)
  monkeypatch.setattr(progress, "time", time)
  return clock


def _work(clock, count=90, seconds=4.0):
  label = "evaluate [cot]"
  with Progress(label, 100, "passes", done=10, status="starting") as shown:
    for index in range(count):
      clock.now += seconds
      shown.advance(1, f"kept {index}%", tokens=8)


def test_a_log_has_a_line_now_and_then(clock, capsys):
  _work(clock)
  told = capsys.readouterr().err
  assert "\r" not in told and "\x1b" not in told
  first, *rest, last = told.splitlines()
  assert first == "evaluate [cot]  10/100 passes  starting"
  # One pass takes four seconds; so long after its start a line comes every 12,
  # then 16, then 20 seconds.
  counts = [int(line.split("  ")[1].split("/")[0]) for line in rest]
  gaps = [b - a for a, b in itertools.pairwise(counts)]
  assert gaps[0] == 3 and gaps == sorted(gaps) and gaps[-1] == 5
  assert rest[0] == (
    "evaluate [cot]  13/100 passes  4.0 s each  0:05:48 left  kept 2%"
    "  2 tokens/s"
  )
  assert last == (
    "evaluate [cot]  100/100 passes  4.0 s each  in 0:06:00  kept 89%"
    "  2 tokens/s"
  )


def test_a_terminal_has_one_line_with_rate_and_time_left(
  clock, capsys, monkeypatch
):
  monkeypatch.setenv("TTY_COMPATIBLE", "1")
  monkeypatch.setenv("COLUMNS", "90")
  monkeypatch.setenv("TERM", "xterm")
  _work(clock, count=40, seconds=0.5)
  drawn = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", capsys.readouterr().err)
  bar = drawn.strip().splitlines()[-1]
  assert len(bar) <= 90
  for part in ("50/100 passes", "2.0/s", "0:00:25 left", "kept 39%"):
    assert part in bar


def test_a_burst_is_not_taken_for_a_rate(clock, capsys):
  with Progress("evaluate", 64, "passes") as shown:
    clock.now += 30  # compilation
    for _ in range(4):
      clock.now += 11
      for _ in range(16):
        clock.now += 0.001
        shown.advance(1, tokens=5)
  lines = capsys.readouterr().err.splitlines()
  assert "/s" not in lines[0]
  # 16 passes, of 5 tokens each, every 11 seconds.
  assert "1.5/s" in lines[-1] and "7 tokens/s" in lines[-1]


def test_the_other_hosts_say_nothing(clock, capsys):
  with Progress("sample", 2, "examples", quiet=True) as shown:
    clock.now += 100
    shown.advance(2)
  assert capsys.readouterr() == ("", "")


def test_large_numbers_are_short(clock, capsys):
  with Progress("load", 7_000_000_000, "weights") as shown:
    for _ in range(2):
      clock.now += 2
      shown.advance(3_500_000_000)
  assert capsys.readouterr().err == (
    "load  7,000.0 M/7,000.0 M weights  1,750.0 M/s  in 0:00:04\n"
  )


@pytest.mark.parametrize(
  "seconds, told",
  [(0.9, "0:00:00"), (3725, "1:02:05"), (200_000, "2 d 7:33:20")],
)
def test_durations(seconds, told):
  assert progress.format_duration(seconds) == told

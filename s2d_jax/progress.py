"""Progress of long work: a bar on a terminal, occasional lines in a log."""

from __future__ import annotations

import collections
import time
from typing import NamedTuple

from rich.console import Console
from rich.progress import (
  BarColumn,
  Progress as Bar,
  ProgressColumn,
  Task,
  TextColumn,
)
from rich.table import Column
from rich.text import Text

# A log of minutes has a line every few seconds, one of days every minute.
_LEAST_SECONDS, _MOST_SECONDS = 10.0, 60.0
# Results come in bursts, as rows of a batch end together: those within a second
# are one burst, and a rate is that between the bursts of the last seconds.
_BURST_SECONDS, _RATE_SECONDS = 1.0, 300.0


class Progress:
  """Counts up to `total`; shows the rate and the time left.

  with Progress("sample", total=2400, unit="examples") as progress:
    for result in results:
      progress.advance(1, status="kept 61%", tokens=120)

  A terminal shows a bar. Anything else gets whole lines, every 10 to 60 seconds
  and at the end; and one at the start if there is a `status` to begin with.
  """

  def __init__(
    self,
    label: str,
    total: int,
    unit: str,
    done: int = 0,
    quiet: bool = False,
    status: str = "",
  ):
    self._console = Console(stderr=True, quiet=quiet)
    self._bar = Bar(
      TextColumn("[bold]{task.description}"),
      BarColumn(bar_width=16),
      _Column(_count),
      _Column(_rate, "cyan"),
      _Column(_left, "green"),
      # What does not fit a narrow terminal is cut off here.
      TextColumn(
        "{task.fields[status]}",
        table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        markup=False,
      ),
      console=self._console,
      expand=True,
      get_time=time.monotonic,
      disable=not self._console.is_terminal,
    )
    self._id = self._bar.add_task(
      label, total=total, completed=done, unit=unit, status=status, rate=0.0
    )
    self._bursts: collections.deque[_Burst] = collections.deque()
    self._tokens = 0

  def __enter__(self) -> Progress:
    self._began = self._shown = time.monotonic()
    self._bar.start()
    if self._task.fields["status"]:
      self._print()
    return self

  def __exit__(self, *unused) -> None:
    self._bar.stop()

  @property
  def done(self) -> int:
    """Items so far."""
    return int(self._task.completed)

  def advance(self, count: int, status: str = "", tokens: int = 0) -> None:
    """Adds `count` done items.

    Args:
      count: of items.
      status: text beside the figures.
      tokens: that these items took; their rate is shown, if there are any.
    """
    now = time.monotonic()
    self._tokens += tokens
    self._bar.update(self._id, advance=count)
    rate, tokens_rate = self._rates(now)
    if tokens_rate:
      status = f"{status}  {tokens_rate:,.0f} tokens/s".strip()
    self._bar.update(self._id, status=status, rate=rate)
    pause = (now - self._began) / 20
    pause = min(max(pause, _LEAST_SECONDS), _MOST_SECONDS)
    if now - self._shown > pause or (count and self._task.finished):
      self._print()

  def _rates(self, now: float) -> tuple[float, float]:
    """Recent items and tokens a second; 0 if not yet known.

    The time before the first burst was mostly compilation, and is left out.
    """
    done, bursts = self._task.completed, self._bursts
    if bursts and now - bursts[-1].time < _BURST_SECONDS:
      bursts[-1] = _Burst(bursts[-1].time, done, self._tokens)
    else:
      bursts.append(_Burst(now, done, self._tokens))
    while len(bursts) > 2 and now - bursts[1].time > _RATE_SECONDS:
      bursts.popleft()
    first, last = bursts[0], bursts[-1]
    if first is last:
      return 0.0, 0.0
    seconds = last.time - first.time
    return (
      (last.done - first.done) / seconds,
      (last.tokens - first.tokens) / seconds,
    )

  @property
  def _task(self) -> Task:
    return self._bar.tasks[0]

  def _print(self) -> None:
    """Writes a line where there is no bar."""
    self._shown = time.monotonic()
    if self._console.is_terminal:
      return
    task = self._task
    parts = [task.description, _count(task), _rate(task), _left(task)]
    parts.append(task.fields["status"])
    line = "  ".join(filter(None, parts))
    self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Burst(NamedTuple):
  """A burst of results: its time, and the totals after it."""

  time: float
  done: float
  tokens: int


class _Column(ProgressColumn):
  """A part of the line, as this module words it."""

  def __init__(self, words, style: str = ""):
    super().__init__(table_column=Column(no_wrap=True))
    self._words, self._style = words, style

  def render(self, task: Task) -> Text:
    return Text(self._words(task), style=self._style)


def _count(task: Task) -> str:
  counts = f"{_number(task.completed)}/{_number(task.total)}"
  return f"{counts} {task.fields['unit']}"


def _number(value: float) -> str:
  return f"{value:,.0f}" if value < 1e6 else f"{value / 1e6:,.1f} M"


def _rate(task: Task) -> str:
  """How many a second; or how long one takes, if that is longer."""
  rate = task.fields["rate"]
  if not rate:
    return ""
  if rate < 1:
    return f"{1 / rate:,.1f} s each"
  return f"{rate:,.1f}/s" if rate < 1e6 else f"{_number(rate)}/s"


def _left(task: Task) -> str:
  if task.finished:
    return f"in {format_duration(task.finished_time or 0)}"
  rate = task.fields["rate"]
  return f"{format_duration(task.remaining / rate)} left" if rate else ""


def format_duration(seconds: float) -> str:
  """A duration: 0:03:12, or 2 d 3:04:05."""
  days, seconds = divmod(int(seconds), 24 * 3600)
  hours, seconds = divmod(seconds, 3600)
  minutes, seconds = divmod(seconds, 60)
  time_of_day = f"{hours}:{minutes:02}:{seconds:02}"
  return f"{days} d {time_of_day}" if days else time_of_day

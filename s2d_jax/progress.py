"""Progress of long work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time

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
# Work comes in bursts, as rows of a batch end together: a rate is that of so
# many seconds.
_RATE_SECONDS = 300.0


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
      speed_estimate_period=_RATE_SECONDS,
      disable=not self._console.is_terminal,
    )
    self._id = self._bar.add_task(
      label, total=total, completed=done, unit=unit, status=status
    )
    self._tokens = 0
    self._first: float | None = None  # when the first result came

  def __enter__(self) -> Progress:
    self._began = self._shown = time.monotonic()
    self._bar.start()
    if self._task.fields["status"]:
      self._print()
    return self

  def __exit__(self, *unused) -> None:
    self._bar.stop()

  def advance(self, count: int, status: str = "", tokens: int = 0) -> None:
    """Notes `count` more done; `status` stands beside the figures.

    Args:
      count: of what is counted.
      status: what else there is to say.
      tokens: that this took; their rate is shown, if there are any.
    """
    now = time.monotonic()
    if self._first is None:
      self._first = now  # what came before it was mostly compilation
    else:
      self._tokens += tokens
    if self._tokens and now > self._first:
      rate = f"{self._tokens / (now - self._first):,.0f} tokens/s"
      status = f"{status}  {rate}".strip()
    self._bar.update(self._id, advance=count, status=status)
    pause = (now - self._began) / 20
    pause = min(max(pause, _LEAST_SECONDS), _MOST_SECONDS)
    if now - self._shown > pause or (count and self._task.finished):
      self._print()

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
  speed = task.finished_speed or task.speed
  if not speed:
    return ""
  if speed < 1:
    return f"{1 / speed:,.1f} s each"
  return f"{speed:,.1f}/s" if speed < 1e6 else f"{_number(speed)}/s"


def _left(task: Task) -> str:
  if task.finished:
    return f"in {clock(task.finished_time or 0)}"
  seconds = task.time_remaining
  return "" if seconds is None else f"{clock(seconds)} left"


def clock(seconds: float) -> str:
  """A duration: 0:03:12, or 2 d 3:04:05."""
  days, seconds = divmod(int(seconds), 24 * 3600)
  hours, seconds = divmod(seconds, 3600)
  minutes, seconds = divmod(seconds, 60)
  told = f"{hours}:{minutes:02}:{seconds:02}"
  return f"{days} d {told}" if days else told

"""Prints plans, and writes them as JSON."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from s2d_jax.planning import estimate as estimates
from s2d_jax.planning.estimate import Estimate, Planned
from s2d_jax.planning.programs import Program, gib, mesh_text
from s2d_jax.planning.rows import Choice
from s2d_jax.planning.sweep import Trial

_TRAIN_ADVICE = (
  "more chips, a smaller --batch or --length, --remat=full, another --mesh"
  " (--sweep tries them), finetune.accumulate, adafactor or finetune.lora"
)
_SAMPLE_ADVICE = (
  "--weights=int8, fewer --rows, other chips (--sampler=v5e:2x4), or all hosts"
  ' together (sampling.scope="global")'
)


def verdict(planned: Planned) -> str:
  """Whether a program fits, in a sentence."""
  program = planned.program
  chip = f"a {program.topology.kind} {program.topology.chip.device}"
  if not planned.fits:
    return f"{program.name}: does not fit: {program.problem} on {chip}"
  memory = program.memory
  return (
    f"{program.name}: fits: needs {gib(memory.peak)} of {gib(memory.usable)}"
    f" on {chip}"
  )


def print_plan(plans: Sequence[Planned], console: Console) -> None:
  """Prints what each program needs and takes, and what was assumed."""
  for planned in plans:
    _print_program(planned, console)
  if any(planned.estimate for planned in plans):
    console.print(Text("Assumptions", style="bold"))
    for assumption in estimates.ASSUMPTIONS:
      console.print(Text(f"- {assumption}"))
    console.print()
  for planned in plans:
    style = "green" if planned.fits else "bold red"
    console.print(Text(verdict(planned), style=style))
  for name in [p.program.name for p in plans if not p.fits][:1]:
    advice = _TRAIN_ADVICE if name == "train step" else _SAMPLE_ADVICE
    console.print(Text(f"what helps: {advice}"))


def _print_program(planned: Planned, console: Console) -> None:
  program, estimate = planned.program, planned.estimate
  console.rule(
    Text(
      f"{program.name} on {program.topology.name}: {mesh_text(program.mesh)},"
      f" {program.tokens:,} tokens; compiled in {program.seconds:.0f} s"
    )
  )
  if estimate is None:
    console.print(Text(f"{program.problem}\n"))
    return
  console.print(_memory_table(program))
  console.print(_roofline_table(estimate))
  if estimate.exchanges:
    console.print(_exchange_table(estimate))
  if program.caches:
    copies = program.cache_copies()
    console.print(Text(f"copies of keys and values in a step: {len(copies)}"))
    times = estimate.traffic / program.least_traffic
    console.print(
      Text(
        f"to and from memory: {times:.2f} × the weights, and the keys and"
        " values that there is room for\n"
      )
    )


def _memory_table(program: Program) -> Table:
  chip = program.topology.chip
  table = _table(f"memory of a {chip.device} at its fullest", "GiB")
  for part, size in program.memory.parts.items():
    table.add_row(part, f"{size / 2**30:.2f}")
  table.add_section()
  table.add_row("together", f"{program.memory.peak / 2**30:.2f}")
  table.add_row(
    f"usable of the {chip.device}'s {chip.hbm_gib:g} GiB",
    f"{chip.usable_gib:.2f}",
  )
  return table


def _roofline_table(estimate: Estimate) -> Table:
  table = _table("a chip's work in one execution", "amount", "at its peak")
  table.add_row(
    "products", f"{estimate.flops / 1e12:,.2f} TFLOP", seconds(estimate.compute)
  )
  table.add_row(
    "to and from memory", gib(estimate.traffic), seconds(estimate.memory)
  )
  sent = sum(exchange.sent for exchange in estimate.exchanges)
  table.add_row("sent to other chips", gib(sent), seconds(estimate.network))
  table.add_section()
  for name, duration in (
    (f"all overlapped: bound by {estimate.bound}", estimate.shortest),
    ("nothing overlapped", estimate.longest),
  ):
    table.add_row(
      name,
      f"{estimate.tokens / duration:,.0f} tokens/s,"
      f" MFU {estimate.mfu(duration):.0%}",
      seconds(duration),
    )
  return table


def _exchange_table(estimate: Estimate) -> Table:
  table = _table("collectives", "chips", "times", "sent a chip", "takes")
  for exchange in estimate.exchanges:
    if exchange.across_slices:
      reach = ", over slices"
    else:
      reach = "" if exchange.across_hosts else ", within a host"
    table.add_row(
      f"{exchange.kind}{reach}",
      str(exchange.size),
      f"{exchange.times:,}",
      gib(exchange.sent),
      seconds(exchange.seconds),
    )
  return table


def _table(first: str, *others: str) -> Table:
  table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
  table.add_column(first)
  for name in others:
    table.add_column(name, justify="right")
  return table


def seconds(duration: float) -> str:
  if duration >= 0.1:
    return f"{duration:.2f} s"
  return f"{duration * 1e3:.2f} ms"


def trial_line(trial: Trial) -> str:
  """What was tried and what came out, in a line."""
  tried = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
  if trial.problem is not None:
    return f"{tried}: does not do: {trial.problem}"
  memory, estimate = trial.planned.program.memory, trial.planned.estimate
  return (
    f"{tried}: {gib(memory.peak)} of {gib(memory.usable)},"
    f" {seconds(estimate.shortest)} to {seconds(estimate.longest)},"
    f" {trial.tokens_per_second:,.0f} tokens/s"
  )


def print_ranking(trials: Sequence[Trial], console: Console) -> None:
  """The trials that fit, best first; then why the others do not do."""
  fitting = [trial for trial in trials if trial.problem is None]
  if not fitting:
    console.print(Text("nothing that was tried fits", style="bold red"))
    return
  names = list(fitting[0].settings)
  table = _table("", *names, "GiB", "step", "tokens/s", "MFU", "bound by")
  for place, trial in enumerate(fitting, 1):
    estimate = trial.planned.estimate
    shortest, longest = estimate.shortest, estimate.longest
    table.add_row(
      str(place),
      *trial.settings.values(),
      f"{trial.planned.program.memory.peak / 2**30:.2f}",
      f"{seconds(shortest)} to {seconds(longest)}",
      f"{trial.tokens_per_second:,.0f}",
      f"{estimate.mfu(longest):.0%} to {estimate.mfu(shortest):.0%}",
      estimate.bound,
    )
  console.print(table)


def print_choice(choice: Choice, given: int, console: Console) -> None:
  """How fast batches are, and which one is chosen.

  Args:
    choice: of the rows.
    given: rows that the config asks for; 0: it leaves them open.
    console: to print on.
  """
  table = _table("rows", "GiB", "tokens/s a chip", "bound by", "")
  notes = {}
  for size, note in (
    (choice.largest, "the most that fit"),
    (choice.knee, "the knee"),
    (choice.size, "chosen"),
  ):
    if size is not None:
      notes[size.rows] = f"{note}, {notes.get(size.rows, '')}".strip(", ")
  for size in choice.listed:
    fits = size.rows <= choice.largest.rows
    table.add_row(
      str(size.rows),
      f"{size.needs(choice.temporary) / 2**30:.1f}",
      f"{size.rate:,.0f}",
      "memory" if size.compute < size.memory else "compute",
      notes.get(size.rows, "" if fits else "does not fit"),
    )
  console.print(table)
  knee = "all of these are bound by memory"
  if choice.knee is not None:
    knee = f"bound by memory below {choice.knee.rows} rows, by compute above"
  way = "sampling.batch_rows" if not given else "sampling.batch_rows=0 takes"
  console.print(Text(f"{way}: {choice.why()}; {knee}"))


def choice_as_json(choice: Choice) -> dict[str, Any]:
  """All sizes, in bytes and tokens a second, of one chip."""
  return {
    "chosen": choice.size.rows,
    "largest": choice.largest.rows,
    "knee": choice.knee and choice.knee.rows,
    "sizes": [
      {
        "rows": size.rows,
        "needs": size.needs(choice.temporary),
        "compute": size.compute,
        "memory": size.memory,
        "tokens_per_second": size.rate,
      }
      for size in choice.sizes
    ],
  }


def as_json(planned: Planned) -> dict[str, Any]:
  """All figures of a program, in bytes and seconds, of one chip."""
  program, estimate = planned.program, planned.estimate
  found = {
    "program": program.name,
    "topology": program.topology.name,
    "mesh": dict(program.mesh.shape),
    "tokens": program.tokens,
    "fits": planned.fits,
    "problem": program.problem,
    "compile_seconds": round(program.seconds, 1),
  }
  if estimate is None:
    return found
  figures = dataclasses.asdict(estimate)
  return found | {
    "memory": {
      "parts": dict(program.memory.parts),
      "peak": program.memory.peak,
      "usable": program.memory.usable,
    },
    "estimate": figures
    | {
      "shortest": estimate.shortest,
      "longest": estimate.longest,
      "bound": estimate.bound,
      "mfu": [estimate.mfu(estimate.longest), estimate.mfu(estimate.shortest)],
    },
    "cache_copies": len(program.cache_copies()),
    "least_traffic": program.least_traffic,
    "assumptions": list(estimates.ASSUMPTIONS),
  }

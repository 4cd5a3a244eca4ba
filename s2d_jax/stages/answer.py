"""Answers a file of questions: at once, or by thinking where that pays.

s2d answer --model=RUN --input=questions.jsonl --output=answers.jsonl

The input is JSON Lines, as many as you like: {"text": "Are Peru and Fiji on the
same continent?"}, or {"inputs": {…}} as in examples/ of the run, with whatever
else a line is to keep. The distilled model of the run answers all of them. Then
its base model thinks, by the method of the run, about those whose direct answer
does not stand by the gate of the run (`s2d gate`), at its own working point or
that of --budget or --agreement. Each line of the output is a line of the input,
in its order, with what was found as "answered".

Until it is complete, the output is in OUTPUT.parts: a program that was killed
goes on where it was, on as many hosts as you like; just run the same command
again.
"""

from __future__ import annotations

from collections.abc import Sequence
import time

from absl import flags
from etils import epath

from s2d_jax import full_disk
from s2d_jax.errors import UserError
from s2d_jax.stages import gated, program
from s2d_jax.stages.answer_file import Files, answer, settings_of

_MODEL = flags.DEFINE_string("model", None, "The folder of a run with a gate.")
_INPUT = flags.DEFINE_string("input", None, "The questions, JSON Lines.")
_OUTPUT = flags.DEFINE_string(
  "output",
  None,
  "The answers, JSON Lines. Several hosts share its folder, which may be in a"
  " bucket.",
)
_BUDGET = flags.DEFINE_float(
  "budget",
  None,
  "Mean generated tokens an answer, over inputs such as the run's own. Default:"
  " the run's working point.",
)
_AGREEMENT = flags.DEFINE_float(
  "agreement",
  None,
  "A direct answer stands that System 2's vote would repeat with this"
  " probability, in place of a budget.",
)


def run(argv: Sequence[str]) -> None:
  del argv
  if not (_MODEL.value and _INPUT.value and _OUTPUT.value):
    raise UserError(
      "give --model=RUN, --input=FILE and --output=FILE, for instance"
      " --model=runs/continents --input=questions.jsonl --output=answers.jsonl"
    )
  files = Files(epath.Path(_INPUT.value), epath.Path(_OUTPUT.value))
  began = time.monotonic()
  with program.on_all_hosts(), full_disk.mistakes(files.output.parent):
    opened = gated.open_run(_MODEL.value)
    opened = opened.at(_BUDGET.value, _AGREEMENT.value)
    told = answer(opened, files, settings_of(opened))
    seconds = time.monotonic() - began
    print(f"answer: {told} ({seconds:.1f} s)", flush=True)


def main() -> None:
  names = ("model", "input", "output", "budget", "agreement", *program.HOSTS)
  program.run_program(run, __doc__, names)


if __name__ == "__main__":
  main()

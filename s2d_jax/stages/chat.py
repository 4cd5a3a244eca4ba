"""Asks a model on the terminal: System 1 and System 2 side by side.

s2d chat --model=smollm2-135m-instruct
s2d chat --model=runs/quickstart
echo "What is the capital of Peru?" | s2d chat --model=runs/quickstart

Each line is a question of its own: the model remembers no earlier one. System 1
answers directly; System 2 thinks by --method, and its steps are shown. With the
folder of a run, its base model does both, beside the direct answer of the
distilled model, all with the prompts of the run. Each answer is followed by its
cost: the tokens, those of the thinking included, and the seconds. The first
answers take longer, while programs are compiled.

Commands: /method NAME, /n N (samples of System 2, which vote), /help, /quit.
Ctrl-C stops an answer, Ctrl-D ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import sys

from absl import flags
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from s2d_jax.errors import UserError
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models import precision
from s2d_jax.stages import gated, program
from s2d_jax.stages.chat_models import Answer, Chat, chat_setup

_MODEL = flags.DEFINE_string(
  "model",
  None,
  "A name, a Hub id, a folder, a .gguf file, or the folder of a run or of one"
  " of its checkpoints.",
)
_METHOD = flags.DEFINE_string(
  "method",
  None,
  "How System 2 thinks: s2a, cot, rar1, rar2, or any other method that needs no"
  " more than a question. Default: the run's, else s2a.",
)
_N = flags.DEFINE_integer(
  "n", 1, "Samples of System 2; the answer that most of them give is shown."
)
_TEMPERATURE = flags.DEFINE_float(
  "temperature",
  None,
  "Default: 0, always the likeliest token; 0.7 for System 2 with several"
  " samples.",
)
_DTYPE = flags.DEFINE_enum(
  "dtype",
  None,
  list(precision.SETTINGS),
  "Of the matrix products. Default: the run's, else auto.",
)

_GATE = flags.DEFINE_boolean(
  "gate",
  False,
  "Of a run with a gate (`s2d gate`): one more column, with the direct answer"
  " of the distilled model if it stands, else what the base model thinks.",
)

_COMPILING = "Programs are compiled: the first answers take longer."
_HELP = """\
Each line is a question of its own; the model remembers no earlier one.
  /method NAME  how System 2 thinks: {methods} (now {method})
  /n N          samples of System 2, which vote (now {n})
  /help         this
  /quit         ends, as Ctrl-D does; Ctrl-C stops an answer"""


def table(answers: Mapping[str, Answer]) -> Table:
  """Answers side by side, the thinking dimmed; System 2 has a wider column."""
  grid = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
  for title in answers:
    wide = 3 if "System 2" in title else 2
    grid.add_column(Text(title), ratio=wide, overflow="fold")
  # As Text, so that square brackets are not read as markup.
  grid.add_row(*map(_cell, answers.values()))
  return grid


def _cell(answer: Answer) -> Group:
  parts = []
  for step in answer.steps:
    parts += [Text(step.strip(), "dim"), Text()]
  parts += [Text(answer.text.strip()), Text(answer.cost, "cyan")]
  return Group(*parts)


def plain(question: str, answers: Mapping[str, Answer]) -> str:
  """The same for files and pipes."""
  lines = [f"Question: {question}"]
  for title, answer in answers.items():
    lines.append(f"{title} ({answer.cost}):")
    lines += [_indent(step, "  | ") for step in answer.steps]
    lines.append(_indent(answer.text, "  "))
  return "\n".join(lines)


def _indent(text: str, by: str) -> str:
  return "\n".join(by + line for line in text.splitlines())


def _lines(is_person: bool) -> Iterator[str]:
  """What is typed, until the end of the input."""
  while True:
    try:
      line = input("> ") if is_person else sys.stdin.readline()
    except EOFError:
      print()
      return
    except KeyboardInterrupt:
      print("\n(Ctrl-D ends)")
      continue
    if not line and not is_person:
      return
    yield line.strip()


def converse(chat: Chat, is_person: bool, console: Console) -> int:
  """Answers line after line.

  Args:
    chat: the models that answer.
    is_person: whether a person types at a terminal; else plain text is printed.
    console: where the table is shown.

  Returns:
    The exit status: 1 if a question of a pipe had no answer.
  """
  status = 0
  for line in _lines(is_person):
    try:
      if line == "/quit":
        break
      if line.startswith("/"):
        print(_obey(chat, line))
      elif line and is_person:
        _show(chat, line, console)
      elif line:
        print(plain(line, chat.ask(line, lambda shown: None)), flush=True)
    except UserError as error:
      print(f"error: {error}", file=sys.stderr, flush=True)
      status = 0 if is_person else 1
    except KeyboardInterrupt:
      if not is_person:
        raise
      print("stopped")
  return status


def _show(chat: Chat, question: str, console: Console) -> None:
  """The table as it grows, then as it is: it may be higher than the screen."""
  answers: dict[str, Answer] = {}
  note = Text(_COMPILING if chat.is_fresh else "", "dim")
  with Live(console=console, transient=True, auto_refresh=False) as live:

    def show(shown: dict[str, Answer]) -> None:
      answers.update(shown)
      live.update(Group(table(answers), note), refresh=True)

    try:
      chat.ask(question, show)
    except KeyboardInterrupt:
      live.stop()
      console.print(table(answers))  # what there is of it
      raise
  console.print(table(answers))


def _obey(chat: Chat, line: str) -> str:
  """Carries out a command; returns what to print."""
  command, _, value = line.partition(" ")
  value = value.strip()
  if command == "/method" and value:
    chat.change(method=value)
  elif command == "/n" and value.isdigit():
    chat.change(n=int(value))
  elif command != "/help":
    raise UserError(f"{line} is no command; /help lists them")
  else:
    methods = ", ".join(chat.system2_methods)
    return _HELP.format(methods=methods, method=chat.method, n=chat.n)
  return f"System 2: /method {chat.method}, /n {chat.n}"


def run(argv: Sequence[str]) -> None:
  del argv
  if not _MODEL.value:
    raise UserError("give --model=NAME, a folder, or the folder of a run")
  temperature = _TEMPERATURE.value
  Sampling(temperature=temperature or 0.0)  # refuses what cannot be
  sys.stdin.reconfigure(errors="replace")  # whatever a pipe brings
  is_person = sys.stdin.isatty() and sys.stdout.isatty()
  models = chat_setup(_MODEL.value, _DTYPE.value)
  gate = gated.open_run(_MODEL.value, _DTYPE.value) if _GATE.value else None
  chat = Chat(models, _METHOD.value, _N.value, temperature, gate)
  if is_person:
    try:
      import readline  # noqa: F401  gives `input` a history
    except ImportError:  # on Windows
      pass
    print(f"{_MODEL.value}: type a question, or /help")
  else:
    print(_COMPILING, file=sys.stderr, flush=True)
  status = converse(chat, is_person, Console())
  if status:
    sys.exit(status)


def main() -> None:
  names = ("model", "method", "n", "temperature", "dtype", "gate")
  program.run_program(run, __doc__, names)


if __name__ == "__main__":
  main()

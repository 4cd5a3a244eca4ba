"""A file of questions, and the file of their answers.

Until it is complete, the answers are in a folder of parts beside it: of each
some thousand lines the direct answers, then the thoughts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import hashlib
import itertools
import json
from typing import Any, NamedTuple

from etils import epath

from s2d_jax import records
from s2d_jax.checkpoints import fingerprint, pretrained
from s2d_jax.curation import long_rows
from s2d_jax.curation.curate import InputId
from s2d_jax.errors import UserError
from s2d_jax.ordered import Order
from s2d_jax.parallel import hosts
from s2d_jax.progress import Progress
from s2d_jax.records import Record
from s2d_jax.stages import gated, program, setup
from s2d_jax.stages.evaluate import Asked, Replies
from s2d_jax.stages.gated import GatedRun
from s2d_jax.stages.inputs import Input
from s2d_jax.stages.shards import RecordShards

# Lines that are answered together: enough to keep a batch full, few enough to
# be in memory.
_LINES = 8192
_ANSWERED = "answered"


class Question(NamedTuple):
  """A line of the input file: its number, all it holds, and what it asks."""

  line: int
  record: Record
  input: Input


# The questions of a file, some thousands at a time, with the number of those.
Batches = Callable[[], Iterator[tuple[int, list[Question]]]]
# Asks a model what hosts deal; what it says to each input is added.
Add = Callable[[InputId, Record], None]
Ask = Callable[[Sequence[Input], Add, Progress], None]


class Files(NamedTuple):
  """What is read and written."""

  questions: epath.Path
  output: epath.Path

  @property
  def parts(self) -> epath.Path:
    """The folder of what is made until the output is complete."""
    return self.output.parent / f"{self.output.name}.parts"

  @property
  def summary(self) -> epath.Path:
    return self.output.parent / f"{self.output.name}.summary.json"

  def part(self, kind: str, number: int) -> epath.Path:
    return self.parts / f"{kind}-{number:05d}.jsonl"


def answer(run: GatedRun, files: Files, settings: Record) -> str:
  """Answers all questions, and writes the output; returns a summary.

  Args:
    run: that answers, at its working point.
    files: of questions and answers.
    settings: what the answers depend on, by the word for it.

  Raises:
    UserError: a line asks nothing that the run can be asked, or the output is
      there already with other settings.
  """

  def batches() -> Iterator[tuple[int, list[Question]]]:
    lines = _questions(run, files.questions)
    return enumerate(iter(lambda: list(itertools.islice(lines, _LINES)), []))

  settings = {"input": _check(batches, files.questions)} | settings
  if _claim(files, settings):
    summary = records.read_json(files.summary, "delete it")["summary"]
    return f"done already: {summary}"
  _answer_directly(run, files, batches)
  _think(run, files, batches)
  hosts.barrier("parts")  # all have seen the last, which goes now
  summary = ""
  if hosts.is_lead():
    summary = _write(run, files, batches, settings)
  hosts.barrier("answers")
  return summary


def _questions(run: GatedRun, path: epath.Path) -> Iterator[Question]:
  for line, record in records.numbered(path):
    place = f"{path}, line {line}"
    if _ANSWERED in record:
      raise UserError(f"{place} has {_ANSWERED!r} already; leave that out")
    yield Question(line, record, run.inputs.read(record, place))


def _check(batches: Batches, path: epath.Path) -> str:
  """Whether every line can be asked; returns the file's fingerprint."""
  if not path.exists() or path.is_dir():
    raise UserError(f"--input={path} is no file; give one of JSON Lines")
  if not sum(len(batch) for _, batch in batches()):
    raise UserError(f"--input={path} is empty; give it a line a question")
  digest = hashlib.blake2b(digest_size=8)
  with path.open("rb") as content:
    while block := content.read(1 << 20):
      digest.update(block)
  return digest.hexdigest()


def _claim(files: Files, settings: Record) -> bool:
  """Makes the folder of parts; returns whether the output is complete.

  Raises:
    UserError: what is there has other settings.
  """
  path = files.parts / "settings.json"
  is_done = not path.exists() and files.output.exists()
  if hosts.lead_value("answered", is_done):
    if not files.summary.exists():
      raise UserError(
        f"--output={files.output} exists already, and `s2d answer` has not made"
        " it; name another"
      )
    found = records.read_json(files.summary, "delete it, and its output")
    _compare(files.output, found["settings"], settings)
    return True
  if hosts.is_lead() and not path.exists():
    try:
      records.write_text(path, json.dumps(settings) + "\n")
    except OSError as error:
      reason = " ".join((error.strerror or str(error)).split())
      raise UserError(
        f"--output={files.output} cannot be written ({reason}); choose another"
      ) from None
  hosts.barrier("settings")
  if not path.exists():
    raise UserError(
      f"{path}, which process 0 has written, is not there: --output must be in"
      " a folder that all hosts share"
    )
  _compare(files.parts, records.read_json(path, "delete its folder"), settings)
  return False


def _compare(path: epath.Path, found: Record, wanted: Record) -> None:
  changed = [name for name in wanted if found.get(name) != wanted[name]]
  if changed:
    raise UserError(
      f"{path} has answers of another {' and '.join(changed)}; name another"
      " --output, or delete it"
    )


def _answer_directly(run: GatedRun, files: Files, batches: Batches) -> None:
  def ask(asked: Sequence[Input], add: Add, shown: Progress) -> None:
    model = setup.distilled_model(run.config, run.workdir)
    add_replies = lambda input_id, replies: add(input_id, replies._asdict())
    run.answer_directly(model, asked, add_replies, shown, _is_shared(run))

  _fill("answer directly", run, run.fast, files, "direct", batches, ask)


def _think(run: GatedRun, files: Files, batches: Batches) -> None:
  def unsure() -> Iterator[tuple[int, list[Question]]]:
    for number, batch in batches():
      direct = _by_line(files.part("direct", number))
      thinks = lambda line, direct=direct: run.thinks(_replies(direct[line]))
      yield number, [one for one in batch if thinks(one.line)]

  def ask(asked: Sequence[Input], add: Add, shown: Progress) -> None:
    model = setup.base_model(run.config)
    run.think(model, asked, add, shown, _is_shared(run))

  _fill("think", run, run.slow, files, "thought", unsure, ask)


def _is_shared(run: GatedRun) -> bool:
  """Whether hosts deal the questions among themselves."""
  return run.config.sampling.scope == "host"


def _fill(
  label: str,
  run: GatedRun,
  how: Asked,
  files: Files,
  kind: str,
  batches: Batches,
  ask: Ask,
) -> None:
  """Asks one model all questions; a file of parts holds those of a batch."""
  scope = run.config.sampling.scope
  counts = {number: len(batch) for number, batch in batches()}
  there = {n for n in counts if files.part(kind, n).exists()}
  if len(there) == len(counts):
    return
  done = how.replies * sum(counts[number] for number in there)
  total = how.replies * sum(counts.values())
  bar = program.progress(label, total, "replies", done, _is_shared(run))
  with bar as shown:
    for number, batch in batches():
      if number not in there:
        path = files.part(kind, number)
        asked = _fill_part(path, scope, batch, ask, shown)
        if hosts.is_lead():  # for all
          shown.advance(how.replies * (counts[number] - asked))


def _fill_part(
  path: epath.Path,
  scope: str,
  batch: Sequence[Question],
  ask: Ask,
  shown: Progress,
) -> int:
  """Asks what has no row yet; returns how many different questions that is."""
  order = Order(("line",), "line::BIGINT")
  with RecordShards.merged_into(path, order, scope) as shards:
    known = {int(line) for (line,) in shards.names()}
    lines: dict[InputId, list[int]] = {}
    asked: dict[InputId, Input] = {}
    for line, _, own in batch:
      if line not in known:
        lines.setdefault(own.id, []).append(line)
        asked[own.id] = own

    def add(input_id: InputId, found: Record) -> None:
      for line in lines[input_id]:
        shards.append({"line": line, **found})

    if asked:
      ask(list(asked.values()), add, shown)
  return len(asked)


def _by_line(path: epath.Path) -> dict[int, Record]:
  return {row.pop("line"): row for row in records.read(path)}


def _replies(row: Record) -> Replies:
  return Replies(row["samples"], row["greedy"])


def _write(
  run: GatedRun, files: Files, batches: Batches, settings: Record
) -> str:
  """Puts the output together; returns the summary, which lies beside it."""
  tally = _Tally(run)

  def rows() -> Iterator[Record]:
    for number, batch in batches():
      direct = _by_line(files.part("direct", number))
      thoughts = _by_line(files.part("thought", number))
      for line, record, _ in batch:
        thought = thoughts.get(line)
        found = run.solution(_replies(direct[line]), thought)
        tally.add(line, found)
        yield record | {_ANSWERED: found.to_record()}

  records.write(files.output, rows())
  found = {"summary": str(tally), "settings": settings}
  records.write_text(files.summary, json.dumps(found) + "\n")
  files.parts.rmtree()
  return str(tally)


class _Tally:
  """Counts what the answers took."""

  def __init__(self, run: GatedRun):
    self._always = run.always
    self._answers = self._thought = self._tokens = self._silent = 0
    self._long: list[str] = []

  def add(self, line: int, found: gated.Solution) -> None:
    self._answers += 1
    self._thought += found.thought
    self._tokens += found.tokens
    self._silent += found.answer is None
    if found.too_long is not None:
      self._long.append(f"line {line}")

  def __str__(self) -> str:
    share = self._thought / self._answers
    told = (
      f"{self._answers:,} answers, {self._thought:,} thought about"
      f" ({share:.0%}), {self._tokens / self._answers:.1f} tokens each, where"
      f" always thinking takes about {self._always:.1f}"
    )
    if self._silent:
      told += f"; {self._silent:,} without an answer"
    if self._long:
      listed = long_rows.listed(self._long)
      told += f", of them too long: {len(self._long):,} {listed}"
    return told


def settings_of(run: GatedRun) -> dict[str, Any]:
  """What the answers depend on besides the questions, by the word for it."""
  config, gate = json.loads(run.config.to_json()), run.gate.to_record()
  names = ("seed", "task", "method", "prompts", "evaluation")
  config = {name: config[name] for name in names}
  return {
    "model": pretrained.identity(run.workdir)["weights"],
    "config": fingerprint.of_text(json.dumps(config)),
    "budget or agreement": gate.pop("least"),
    "gate": fingerprint.of_text(json.dumps(gate)),
  }

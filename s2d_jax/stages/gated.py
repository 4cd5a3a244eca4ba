"""A run with its gate: direct answers, and thoughts where those do not stand.

The distilled model answers at once, greedily. Where its confidence is too low
the base model thinks, by the run's method, and the vote of its samples is the
answer: the distilled model has unlearnt to think.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses

from etils import epath
from ml_collections import ConfigDict
import numpy as np

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.curation import long_rows
from s2d_jax.curation.curate import InputId
from s2d_jax.curation.vote import vote
from s2d_jax.errors import UserError
from s2d_jax.gate import rows
from s2d_jax.gate.confidence import SIGNALS, taken
from s2d_jax.gate.gate import Gate
from s2d_jax.generation.shapes import bucket
from s2d_jax.parallel.dealing import Deal
from s2d_jax.progress import Progress
from s2d_jax.records import Record
from s2d_jax.stages import (
  batch_rows,
  evaluate,
  finished_run,
  model_record,
  setup,
)
from s2d_jax.stages.evaluate import Asked, Replies
from s2d_jax.stages.inputs import Input, Inputs
from s2d_jax.tasks.task import Task, read_examples


@dataclasses.dataclass(frozen=True)
class Solution:
  """An answer, how it was found and what it took.

  Attributes:
    text: the reply that has it; of several thoughts, one that won the vote, and
      the answer itself where no reply is it alone.
    answer: as the task reads it; None where there is none.
    thought: whether System 2 thought, as the direct answer did not stand.
    confidence: of the direct answer, in the unit of the gate's signal.
    probability: that System 2's vote says the same as the direct answer.
    tokens: generated for all of it.
    prompt_tokens: read for all of it, as if no prompt were shared.
    votes: of each answer, most first, where System 2 thought; else None.
    too_long: tokens of the prompt that did not fit the model's window, where
      there is no answer for that; else None.
  """

  text: str
  answer: str | None
  thought: bool
  confidence: float
  probability: float
  tokens: int
  prompt_tokens: int
  votes: Mapping[str, int] | None = None
  too_long: int | None = None

  def to_record(self) -> Record:
    """Without what it has not."""
    found = dataclasses.asdict(self)
    for name in ("votes", "too_long"):
      if found[name] is None:
        del found[name]
    return found


@dataclasses.dataclass(frozen=True)
class GatedRun:
  """A run that answers.

  Attributes:
    workdir: of the run, of which nothing is changed.
    config: its settings.
    task: with the prompts, and what finds the answer in a reply.
    inputs: makes examples of what is asked.
    gate: at its working point.
  """

  workdir: epath.Path
  config: ConfigDict
  task: Task
  inputs: Inputs
  gate: Gate

  def at(self, budget: float | None, agreement: float | None) -> GatedRun:
    """The same with another working point; None and None: the run's own.

    Args:
      budget: mean generated tokens an answer.
      agreement: least probability that System 2's vote says the same.
    """
    if budget is not None and agreement is not None:
      raise UserError("give a budget or an agreement, not both")
    gate = self.gate
    if budget is not None:
      if not budget > 0:
        raise UserError(f"budget={budget:g} must be more than 0 tokens")
      gate = gate.within(budget)
    if agreement is not None:
      if not 0 <= agreement <= 1:
        raise UserError(
          f"agreement={agreement:g} must be a probability, from 0 to 1"
        )
      gate = gate.agreeing(agreement)
    return dataclasses.replace(self, gate=gate)

  @property
  def fast(self) -> Asked:
    """How the distilled model is asked."""
    samples = SIGNALS[self.gate.signal].samples
    return evaluate.directly(self.config)._replace(n=samples)

  @property
  def slow(self) -> Asked:
    """How the base model is."""
    return Asked(self.config.method, self.config.evaluation.n, is_greedy=False)

  @property
  def always(self) -> float:
    """Mean tokens of System 2's vote, on the validation inputs."""
    return float(np.mean(self.gate.slow_tokens))

  def answer_directly(
    self,
    model: Pretrained,
    asked: Sequence[Input],
    add: Callable[[InputId, Replies], None],
    shown: Progress | None = None,
    is_shared: bool = False,
  ) -> None:
    """Has the distilled model answer; adds its replies to each input.

    Args:
      model: the distilled one.
      asked: inputs, of which none is there twice.
      add: takes the replies to one.
      shown: counts the replies.
      is_shared: whether hosts deal the inputs among themselves.
    """
    drawn = self._draw(model, self.fast, asked, shown, is_shared)
    for input_id, replies in drawn:
      add(input_id, replies)

  def think(
    self,
    model: Pretrained,
    asked: Sequence[Input],
    add: Callable[[InputId, Record], None],
    shown: Progress | None = None,
    is_shared: bool = False,
  ) -> None:
    """Has the base model think; adds the vote of its thoughts on each input.

    For the arguments see `answer_directly`.
    """
    drawn = self._draw(model, self.slow, asked, shown, is_shared)
    for input_id, replies in drawn:
      add(input_id, _thought(replies.samples))

  def solve(
    self,
    asked: Sequence[Input],
    fast_model: Callable[[], Pretrained],
    slow_model: Callable[[], Pretrained],
    quiet: bool = False,
  ) -> list[Solution]:
    """The answers to a few inputs or many, in their order.

    All are answered directly first, and then all are thought about that have
    to be: a model is asked for where it is needed, and the batch is full.
    """
    direct: dict[InputId, Replies] = {}
    thoughts: dict[InputId, Record] = {}
    each = list({one.id: one for one in asked}.values())
    run = self._with_rows(len(each) * self.fast.replies)
    with _progress("answer directly", run.fast, each, quiet) as shown:
      if each:
        run.answer_directly(fast_model(), each, direct.__setitem__, shown)
    unsure = [one for one in each if self.thinks(direct[one.id])]
    run = self._with_rows(len(unsure) * self.slow.replies)
    with _progress("think", run.slow, unsure, quiet) as shown:
      if unsure:
        run.think(slow_model(), unsure, thoughts.__setitem__, shown)
    return [
      self.solution(direct[one.id], thoughts.get(one.id)) for one in asked
    ]

  def _with_rows(self, replies: int) -> GatedRun:
    """With a batch as small as so few replies: the rest would be computed."""
    config = self.config.copy_and_resolve_references()
    rows = config.sampling.batch_rows
    config.sampling.batch_rows = min(rows, bucket(replies))
    return dataclasses.replace(self, config=config)

  def _draw(
    self,
    model: Pretrained,
    how: Asked,
    asked: Sequence[Input],
    shown: Progress | None,
    is_shared: bool,
  ) -> Iterator[tuple[InputId, Replies]]:
    """Yields the replies to inputs."""
    examples = {one.example.id: one.example for one in asked}
    inputs = [(how, one.id) for one in asked]
    deal = Deal("inputs", inputs, is_shared=is_shared)
    drawn = evaluate.draw_replies(
      self.config, model, self.task, examples, deal, shown
    )
    return ((input_id, replies) for _, input_id, replies in drawn)

  def confidence(self, direct: Replies) -> float:
    return self.gate.confidence(direct.greedy, direct.samples)

  def thinks(self, direct: Replies) -> bool:
    """Whether the direct answer does not stand."""
    return self.gate.thinks(self.confidence(direct))

  def solution(self, direct: Replies, thought: Record | None) -> Solution:
    """The answer of both passes; `thought` is None where there was none."""
    confidence = self.confidence(direct)
    drawn = taken(self.gate.signal, direct.greedy, direct.samples)
    found = direct.greedy if thought is None else thought
    spent = drawn if thought is None else [*drawn, thought]
    return Solution(
      text=found["text"] or found["answer"] or "",
      answer=found["answer"],
      thought=thought is not None,
      confidence=confidence,
      probability=self.gate.probability(confidence),
      tokens=sum(one["tokens"] for one in spent),
      prompt_tokens=sum(one["prompt_tokens"] for one in spent),
      votes=None if thought is None else thought["votes"],
      too_long=found.get("too_long"),
    )


def _progress(
  label: str, how: Asked, asked: Sequence[Input], quiet: bool
) -> Progress:
  return Progress(label, len(asked) * how.replies, "replies", quiet=quiet)


def _thought(samples: Sequence[Record]) -> Record:
  """What the samples come to: the vote, and a reply that says the same."""
  row = {"passes": samples, "vote": evaluate.vote_of(samples)}
  found = rows.vote_of(row)
  votes = vote([one.get("nested", one)["answer"] for one in samples])
  found["votes"] = dict(votes.counts)
  if all(map(long_rows.is_too_long, samples)):
    found["too_long"] = max(one["too_long"] for one in samples)
  return found


def open_run(name: epath.PathLike, dtype: str | None = None) -> GatedRun:
  """The run in a folder, with its gate.

  Args:
    name: the folder.
    dtype: of the products of sampling; None: the run's.

  Raises:
    UserError: it is no run, has no checkpoint or no gate, or its base model is
      not the one it was begun with.
  """
  workdir = epath.Path(name)
  if finished_run.folder_of(workdir) != workdir:
    raise UserError(
      f"{name} is not the folder of a run; give the --workdir of one, with its"
      " config.json and examples/"
    )
  config = finished_run.read_config(workdir, dtype)
  # Of a question that does not fit, only this one has no answer.
  config.too_long = "drop"
  # Inputs come a few at a time, and rows that go by them would be compiled for
  # each time.
  config.sampling.batch_rows = config.sampling.batch_rows or batch_rows.FIXED
  gate = _read_gate(workdir)
  model_record.check(config, workdir)  # it is the base model that thinks
  task = setup.task_of(config)
  evaluated = read_examples(setup.examples_path(workdir, "test"))
  return GatedRun(workdir, config, task, Inputs(task, evaluated), gate)


def _read_gate(workdir: epath.Path) -> Gate:
  path = workdir / "gate.json"
  if not path.exists():
    raise UserError(
      f"{workdir} has no gate yet; run `s2d gate` with its --config and"
      " --workdir first"
    )
  found = records.read_json(path, "delete it, and run `s2d gate` again")
  if "gate" not in found:
    raise UserError(
      f"{workdir} has no gate to answer by, as {found.get('why_not')}; `s2d"
      " chat` and LanguageModel.load ask its distilled model alone"
    )
  return Gate.from_record(found["gate"])

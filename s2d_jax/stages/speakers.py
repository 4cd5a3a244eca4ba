"""Models that answer a question, directly and by a method, and what it costs.

What a chat is made of: a subject says which models there are and how they are
asked, a speaker is one of them, and a `Chat` has the speakers of a subject
answer one after another.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import re
import time
from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.config import default
from s2d_jax.curation.vote import vote
from s2d_jax.errors import UserError
from s2d_jax.generation.engine import Engine
from s2d_jax.generation.sampling import Sampling
from s2d_jax.stages import setup
from s2d_jax.system2.methods import METHODS
from s2d_jax.system2.program import Prompts, Template
from s2d_jax.system2.scheduler import Job, Result, Scheduler, Step
from s2d_jax.tasks.task import Task, read_examples

_DIRECTLY = "system1"
# Tokens of a prompt that decoding takes without being compiled again.
_PROMPT_CAPACITY = 256


class _General(NamedTuple):
  """In place of a task: any question, asked as it is."""

  name: str = "chat"
  prompts: Mapping[str, Template] = {
    _DIRECTLY: Template("{text}", max_new_tokens=256)
  }


@dataclasses.dataclass(frozen=True)
class Subject:
  """What is asked about: how, and with whose words.

  Attributes:
    config: of the run, or the default with the model's name.
    distilled: the folder of what the run has learnt, None without a run.
    task: has the templates.
    format: fills the gap of that name in templates: how to answer.
  """

  config: ConfigDict
  distilled: epath.Path | None
  task: Task | _General
  format: str

  def prompts(self, method: str) -> Prompts:
    """The templates of a method.

    Raises:
      UserError: it is unknown, or needs more than a question.
    """
    fine = self.methods
    if method not in fine:
      raise UserError(
        f"method={method!r} is none that a question is enough for; there are"
        f" {', '.join(fine)}"
      )
    return setup.prompts_of(self.config, self.task, method)

  def fields(self, question: str) -> Mapping[str, str]:
    return {"text": question, "format": self.format}

  @property
  def methods(self) -> list[str]:
    """Those that need no more than a question."""

    def fits(method: str) -> bool:
      try:
        prompts = setup.prompts_of(self.config, self.task, method)
        next(METHODS[method].think(self.fields("?"), prompts))
      except (UserError, KeyError):  # of a template, of a field
        return False
      return True

    return [method for method in METHODS if fits(method)]


def subject_of(name: str, dtype: str | None = None) -> Subject:
  """The model `name`, or what the run of that folder was about.

  Args:
    name: as `--model`.
    dtype: of the products; None: the run's.
  """
  path = epath.Path(name)
  if path.parent.name == "checkpoints" and path.is_dir():
    run = path.parent.parent
  else:
    run = path
  config = default()
  if not (run / "config.json").exists() or not (run / "examples").exists():
    config.model.name, config.model.dtype = name, dtype or "auto"
    return Subject(config, None, _General(), "the answer")
  if not (run / "checkpoints").exists():
    raise UserError(
      f"{run} has learnt nothing yet; run `s2d finetune` first, or ask its base"
      " model by name"
    )
  with config.unlocked():
    found = json.loads((run / "config.json").read_text())
    config.task = ConfigDict(found.pop("task"))
    config.update(found)
  config.model.dtype = dtype or config.model.dtype
  task = setup.task_of(config)
  first = read_examples(run / "examples" / "test.jsonl")[0]
  said = task.fields(first, task.plain).get("format", "the answer")
  return Subject(config, path, task, said)


@dataclasses.dataclass
class Answer:
  """What is known so far of an answer, and what it has cost.

  Attributes:
    steps: of the thinking.
    text: of the answer, or of the next step while it is written.
    tokens: of all passes.
    seconds: until it was there; None: it is still being written.
    note: on the vote.
  """

  steps: list[str] = dataclasses.field(default_factory=list)
  text: str = ""
  tokens: int = 0
  seconds: float | None = None
  note: str = ""

  @property
  def cost(self) -> str:
    if self.seconds is None:
      return "…"
    said = f"{self.tokens} tokens, {self.seconds:.1f} s"
    return f"{said}, {self.note}" if self.note else said


class Speaker:
  """A model that answers questions, directly and by a method.

  Args:
    subject: what it is asked about.
    model: its weights.
    method: of its System 2.
    n: passes of System 2.
  """

  def __init__(self, subject: Subject, model: Pretrained, method: str, n: int):
    self._subject, self._model, self._n = subject, model, n
    self._prompts = {
      name: subject.prompts(name) for name in dict.fromkeys((_DIRECTLY, method))
    }
    self.reset()

  def reset(self) -> None:
    """Begins anew, after an answer that was not heard to its end."""
    config, model = self._subject.config, self._model
    chat = setup.chat_template(config, model)
    engine = Engine(
      setup.network(config, model),
      model.params,
      model.tokenizer,
      chat.end_tokens,
      rows=self._n,
      samples=self._n,
      prompt_capacity=_PROMPT_CAPACITY,
      max_new_tokens=max(
        template.max_new_tokens
        for prompts in self._prompts.values()
        for template in prompts.values()
      ),
      mesh=setup.sampling_mesh(config, model.config),
    )
    self._schedulers = {
      method: Scheduler(
        engine,
        chat,
        METHODS[method],
        prompts,
        seed=config.seed,
        in_flight=self._n,
      )
      for method, prompts in self._prompts.items()
    }

  def answer(
    self,
    method: str,
    question: str,
    name: str,
    temperature: float,
    n: int,
    show: Callable[[Answer], None],
  ) -> None:
    """Answers, by the vote of n passes; `show` is told as the text comes."""
    began = time.monotonic()
    passes = [(f"{name}, pass {number + 1}",) for number in range(n)]
    fields = self._subject.fields(question)

    def watch(job: Job, steps: list[Step], text: str) -> None:
      if job.name == passes[0]:
        show(Answer([step.completion.text for step in steps], text))

    results = self._schedulers[method].run(
      collections.deque(Job(one, fields) for one in passes),
      Sampling(temperature=temperature),
      watch,
    )
    ended = {result.job.name: result for result in results}
    chosen, note = _elect([ended[one] for one in passes])
    reply = chosen.replies[0].strip()
    steps = [step.completion.text.strip() for step in chosen.steps]
    show(
      Answer(
        steps[:-1] if steps[-1] == reply else steps,
        reply,
        sum(result.tokens for result in ended.values()),
        time.monotonic() - began,
        note,
      )
    )


def _elect(results: Sequence[Result]) -> tuple[Result, str]:
  """The first pass that says what most say, and how many those are."""
  words = [
    " ".join(re.findall(r"\w+", one.replies[0].lower())) for one in results
  ]
  if len(results) == 1:
    return results[0], ""
  found = vote(words)
  if found.winner is None:
    return results[0], f"no majority among {len(results)} passes"
  note = f"{found.counts[found.winner]} of {len(results)} passes agree"
  return results[words.index(found.winner)], note


class Chat:
  """Asks the model, or the two of a run, what the user asks.

  Args:
    subject: what is asked about.
    method: of System 2; None: the run's.
    n: passes of System 2.
    temperature: None: 0, or 0.7 for several passes.

  Attributes:
    is_fresh: whether the next answers may have to wait for a compiler.
  """

  def __init__(
    self,
    subject: Subject,
    method: str | None,
    n: int,
    temperature: float | None,
  ):
    self.subject = subject
    self.method = method or subject.config.method
    self.n = n
    self._temperature = temperature
    self._asked = 0
    self._check(self.method, n)
    setup.enable_compilation_cache()
    config = subject.config
    self._models = [setup.base_model(config)]
    if subject.distilled is not None:
      setup.release()  # both are wanted at once
      self._models.append(setup.distilled_model(config, subject.distilled))
    self._make_speakers()

  @property
  def thinking(self) -> list[str]:
    """Methods that System 2 can have."""
    return [name for name in self.subject.methods if name != _DIRECTLY]

  def change(self, method: str | None = None, n: int | None = None) -> None:
    """Another method or number of passes."""
    method, n = method or self.method, self.n if n is None else n
    self._check(method, n)
    self.method, self.n = method, n
    self._make_speakers()

  def ask(
    self, question: str, show: Callable[[dict[str, Answer]], None]
  ) -> dict[str, Answer]:
    """The answers by the name of who gives them; `show` sees them grow."""
    self._asked += 1
    name = f"question {self._asked}"
    shown = {title: Answer() for title in self._columns}
    show(shown)
    try:
      for title, (speaker, method, n) in self._columns.items():

        def note(answer: Answer, title: str = title) -> None:
          shown[title] = answer
          show(shown)

        several = 0.7 if n > 1 else 0.0
        chosen = self._temperature
        temperature = several if chosen is None else chosen
        speaker.answer(method, question, name, temperature, n, note)
    except BaseException:  # Ctrl-C too: replies are left in the engine
      speaker.reset()
      raise
    self.is_fresh = False
    return shown

  def _check(self, method: str, n: int) -> None:
    if n < 1:
      raise UserError(f"n={n} must be 1 or more")
    try:
      self.subject.prompts(_DIRECTLY)
    except UserError:
      raise UserError(
        f"the task {self.subject.task.name} asks about more than a line of"
        f" text; ask its model: --model={self.subject.config.model.name}"
      ) from None
    self.subject.prompts(method)

  def _make_speakers(self) -> None:
    """Titles of the columns, and who speaks there, how, how often."""
    self.is_fresh = True
    base, *distilled = self._models
    speaker = Speaker(self.subject, base, self.method, self.n)
    whose = "base, " if distilled else ""
    self._columns = {
      f"{whose}System 1": (speaker, _DIRECTLY, 1),
      f"{whose}System 2 ({self.method})": (speaker, self.method, self.n),
    }
    if distilled:
      speaker = Speaker(self.subject, distilled[0], _DIRECTLY, 1)
      self._columns["distilled, System 1"] = speaker, _DIRECTLY, 1

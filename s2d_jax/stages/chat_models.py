"""Models that answer a question, directly and by a method, and what it costs.

A `ChatSetup` says which models there are and how they are prompted, a
`ChatModel` is one of them, and a `Chat` has the models of a setup answer one
after another.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import re
import time
from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict

from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.config import default
from s2d_jax.curation.vote import vote
from s2d_jax.errors import UserError
from s2d_jax.evaluation.controls import ALOUD
from s2d_jax.generation.engine import Engine
from s2d_jax.generation.sampling import Sampling
from s2d_jax.stages import finished_run, setup
from s2d_jax.stages.gated import GatedRun
from s2d_jax.stages.inputs import Input
from s2d_jax.system2.methods import METHODS
from s2d_jax.system2.program import Prompts, Template, for_chat
from s2d_jax.system2.scheduler import (
  Job,
  Result,
  Scheduler,
  Step,
  end_tokens,
)
from s2d_jax.tasks.task import Example, Task, inputs_of, read_examples

_DIRECT, _GATED = "system1", "gated"
# Tokens of a prompt that decoding takes without being compiled again.
_PROMPT_CAPACITY = 256


class _AnyQuestion(NamedTuple):
  """In place of a task: any question, asked as it is."""

  name: str = "chat"
  prompts: Mapping[str, Template] = {
    _DIRECT: Template("{text}", max_new_tokens=256)
  }


@dataclasses.dataclass(frozen=True)
class ChatSetup:
  """Which models answer, and their prompts.

  Attributes:
    config: of the run, or the default with the model's name.
    distilled: the folder of the run, which is that of its distilled model; None
      without a run.
    task: has the templates.
    format: value of the placeholder of that name: how to answer.
    example: a question that the task knows all about, if it knows any.
  """

  config: ConfigDict
  distilled: epath.Path | None
  task: Task | _AnyQuestion
  format: str
  example: str = "?"

  def prompts(self, method: str) -> Prompts:
    """The templates of a method.

    Raises:
      UserError: it is unknown, or needs more than a question.
    """
    known = self.methods
    if method not in known:
      raise UserError(
        f"method={method!r} is unknown or needs more than a question; there are"
        f" {', '.join(known)}"
      )
    prompts = setup.prompts_of(self.config, self.task, method)
    model = setup.base_without_weights(self.config)
    return for_chat(prompts, setup.chat_template(self.config, model))

  def fields(self, question: str) -> Mapping[str, str]:
    """All that the task knows of it, at least the text and the format."""
    inputs = inputs_of(self.task, question)
    if inputs is None:
      return {"text": question, "format": self.format}
    own = Example(question, self.task.name, inputs)
    return self.task.fields(own, self.task.plain)

  def check(self, method: str, question: str) -> None:
    """Raises UserError if the method needs more than this question."""
    prompts = setup.prompts_of(self.config, self.task, method)
    try:
      next(METHODS[method].think(self.fields(question), prompts))
    except KeyError:  # of a field
      raise UserError(
        f"method={method!r} needs more than this question; ask as in"
        f" {self.example!r}, or choose another method"
      ) from None

  @property
  def methods(self) -> list[str]:
    """Those that need no more than a question."""

    def fits(method: str) -> bool:
      try:
        self.check(method, self.example)
      except UserError:  # of a template, or of a field
        return False
      return True

    return [method for method in METHODS if fits(method)]


def chat_setup(name: str, dtype: str | None = None) -> ChatSetup:
  """Of the model `name`, or of the run in that folder.

  Args:
    name: as `--model`.
    dtype: of the products; None: the run's.
  """
  run = finished_run.folder_of(name)
  if run is None:
    config = default()
    config.model.name, config.model.dtype = name, dtype or "auto"
    chat = setup.chat_template(config, setup.base_without_weights(config))
    if chat.thinking_switch:  # System 1 does not think
      with config.unlocked():
        config.model.chat = {chat.thinking_switch: False}
    return ChatSetup(config, None, _AnyQuestion(), "the answer")
  config = finished_run.read_config(run, dtype)
  task = setup.task_of(config)
  first = read_examples(run / "examples" / "test.jsonl")[0]
  fields = task.fields(first, task.plain)
  format = fields.get("format", "the answer")
  return ChatSetup(config, epath.Path(name), task, format, fields["text"])


@dataclasses.dataclass
class Answer:
  """An answer so far, and its cost.

  Attributes:
    steps: of the thinking.
    text: of the answer, or of the next step while it is written.
    tokens: of all samples.
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
    cost = f"{self.tokens} tokens, {self.seconds:.1f} s"
    return f"{cost}, {self.note}" if self.note else cost


class ChatModel:
  """A model that answers questions, directly and by a method.

  Args:
    chat_setup: its prompts.
    model: its weights.
    method: of its System 2.
    n: samples of System 2.
  """

  def __init__(
    self, chat_setup: ChatSetup, model: Pretrained, method: str, n: int
  ):
    self._setup, self._model, self._n = chat_setup, model, n
    self._prompts = {
      name: chat_setup.prompts(name)
      for name in dict.fromkeys((_DIRECT, method))
    }
    self.reset()

  def reset(self) -> None:
    """Starts afresh, after an answer that was interrupted."""
    config, model = self._setup.config, self._model
    chat = setup.chat_template(config, model)
    engine = Engine(
      setup.network(config, model),
      model.params,
      model.tokenizer,
      end_tokens(chat, collections.ChainMap(*self._prompts.values())),
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
    """Answers by the vote of n samples; `show` gets the text as it comes."""
    began = time.monotonic()
    names = [(f"{name}, sample {number + 1}",) for number in range(n)]
    fields = self._setup.fields(question)

    def watch(job: Job, steps: list[Step], text: str) -> None:
      if job.name == names[0]:
        show(Answer([step.completion.text for step in steps], text))

    sampling = Sampling(temperature=temperature)
    jobs = collections.deque(Job(name, fields, sampling) for name in names)
    results = self._schedulers[method].run(jobs, watch)
    ended = {result.job.name: result for result in results}
    chosen, note = _majority([ended[name] for name in names])
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


def _majority(results: Sequence[Result]) -> tuple[Result, str]:
  """The first sample that says what most say, and how many those are."""
  words = [
    " ".join(re.findall(r"\w+", result.replies[0].lower()))
    for result in results
  ]
  if len(results) == 1:
    return results[0], ""
  found = vote(words)
  if found.winner is None:
    return results[0], f"no majority among {len(results)} samples"
  note = f"{found.counts[found.winner]} of {len(results)} samples agree"
  return results[words.index(found.winner)], note


class Chat:
  """Answers the user's questions by one model, or by the two of a run.

  Args:
    chat_setup: the models and their prompts.
    method: of System 2; None: the run's.
    n: samples of System 2.
    temperature: None: 0, or 0.7 for several samples.
    gated: the run with its gate, for a column of what that lets pass, or has
      thought about; None: there is no such column.

  Attributes:
    is_fresh: whether the next answers may have to wait for a compiler.
  """

  def __init__(
    self,
    chat_setup: ChatSetup,
    method: str | None,
    n: int,
    temperature: float | None,
    gated: GatedRun | None = None,
  ):
    self.setup = chat_setup
    self._gated = gated
    self.method = method or chat_setup.config.method
    self.n = n
    self._temperature = temperature
    self._questions = 0
    self._check(self.method, n)
    setup.enable_compilation_cache()
    config = chat_setup.config
    self._models = [setup.base_model(config)]
    if chat_setup.distilled is not None:
      setup.release()  # both are needed at once
      self._models.append(setup.distilled_model(config, chat_setup.distilled))
    self._make_columns()

  @property
  def system2_methods(self) -> list[str]:
    """Methods that System 2 can have."""
    own = _DIRECT, ALOUD
    return [name for name in self.setup.methods if name not in own]

  def change(self, method: str | None = None, n: int | None = None) -> None:
    """Another method or number of samples."""
    method, n = method or self.method, self.n if n is None else n
    self._check(method, n)
    self.method, self.n = method, n
    self._make_columns()

  def ask(
    self, question: str, show: Callable[[dict[str, Answer]], None]
  ) -> dict[str, Answer]:
    """The answers by column title; `show` gets them as they grow."""
    for _, method, _ in self._columns.values():
      self.setup.check(method, question)
    self._questions += 1
    name = f"question {self._questions}"
    shown = {title: Answer() for title in self._columns}
    if self._gated:
      asked = self._gated.inputs.read(question, "the question")
      shown[_GATED] = Answer()
    show(shown)
    try:
      for title, (model, method, n) in self._columns.items():

        def note(answer: Answer, title: str = title) -> None:
          shown[title] = answer
          show(shown)

        several = 0.7 if n > 1 else 0.0
        chosen = self._temperature
        temperature = several if chosen is None else chosen
        model.answer(method, question, name, temperature, n, note)
      if self._gated:
        shown[_GATED] = self._by_gate(asked)
        show(shown)
    except BaseException:  # Ctrl-C too: replies are left in the engine
      model.reset()
      raise
    self.is_fresh = False
    return shown

  def _by_gate(self, asked: Input) -> Answer:
    """The direct answer if it stands, else what the base model thinks."""
    began = time.monotonic()
    base, distilled = self._models
    [found] = self._gated.solve([asked], lambda: distilled, lambda: base, True)
    seconds = time.monotonic() - began
    likely = f"System 2 would say the same with {found.probability:.0%}"
    note = f"thought, as {likely}" if found.thought else f"direct, {likely}"
    return Answer([], found.text.strip(), found.tokens, seconds, note)

  def _check(self, method: str, n: int) -> None:
    if n < 1:
      raise UserError(f"n={n} must be 1 or more")
    try:
      self.setup.prompts(_DIRECT)
    except UserError:
      raise UserError(
        f"the task {self.setup.task.name} needs more than a line of text; name"
        f" its model instead: --model={self.setup.config.model.name}"
      ) from None
    self.setup.prompts(method)

  def _make_columns(self) -> None:
    """By title: a model, its method, and the number of samples."""
    self.is_fresh = True
    base, *distilled = self._models
    model = ChatModel(self.setup, base, self.method, self.n)
    whose = "base, " if distilled else ""
    self._columns = {
      f"{whose}System 1": (model, _DIRECT, 1),
      f"{whose}System 2 ({self.method})": (model, self.method, self.n),
    }
    if distilled:
      # One that was taught to think first has space for it.
      own = ALOUD if setup.thinks_aloud(self.setup.config) else _DIRECT
      model = ChatModel(self.setup, distilled[0], own, 1)
      self._columns["distilled, System 1"] = model, own, 1

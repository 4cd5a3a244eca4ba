"""Runs many System 2 programs at once over one batched engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import itertools
from typing import Protocol

from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.generation.engine import Completion, Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling
from s2d_jax.system2.program import (
  Fields,
  Method,
  ModelCall,
  Prompts,
  Reply,
  Steps,
  Template,
  Unended,
  for_chat,
)

# Programs in flight for each row of a batch: enough prompts then wait to
# prefill those of a length together, and samples of several rounds that began
# late do not end long after all others.
PROGRAMS_PER_ROW = 4


@dataclasses.dataclass(frozen=True)
class Job:
  """One sample of a method for one input.

  The randomness of its replies is derived from the seed and its names alone.

  Attributes:
    name: identifies the sample, for instance (example, variant, number).
    fields: of its templates.
    sampling: temperature and filters of all its replies; a call brings its own
      limit and stops.
    shared_name: what samples of other variants have in common with it, for
      instance (example, number): calls that are shared have their randomness
      from it. None: the sample shares nothing.
    scheduler: the name of the one that runs it, of several together.
  """

  name: tuple[str | int, ...]
  fields: Fields
  sampling: Sampling
  shared_name: tuple[str | int, ...] | None = None
  scheduler: str = ""


class Jobs(Protocol):
  """Jobs that wait in a line, as in a deque."""

  def __bool__(self) -> bool:
    """Whether one waits; if none does while others are under way, ask again."""

  def popleft(self) -> Job:
    """Takes the first one."""


@dataclasses.dataclass(frozen=True)
class Step:
  """One rendered prompt, its number of tokens, and the reply."""

  prompt: str
  prompt_tokens: int
  completion: Completion


@dataclasses.dataclass(frozen=True)
class Result:
  """A sample that is complete.

  Attributes:
    job: of the sample.
    steps: every reply of the model, in the order of the calls.
    replies: the method's replies to the user; more than one if it gives several
      answers to one thought.
    too_long: tokens of a prompt that did not fit the model's window, where the
      sample ended for that; its replies are empty.
    unended: whether its thought did not end by itself.
  """

  job: Job
  steps: list[Step]
  replies: list[str]
  too_long: int | None = None
  unended: bool = False

  @property
  def tokens(self) -> int:
    """Generated tokens of all steps."""
    return sum(len(step.completion.tokens) for step in self.steps)

  @property
  def prompt_tokens(self) -> int:
    """Tokens of the prompts of all steps, as if none were shared."""
    return sum(step.prompt_tokens for step in self.steps)


class _Program:
  """A job in flight: its generator, and the replies it waits for."""

  def __init__(self, scheduler: Scheduler, job: Job, steps: Steps):
    self.scheduler, self.job = scheduler, job
    self.done: list[Step] = []
    self.unended = False
    self._generator = steps

  def resume(self, value) -> list[ModelCall] | list[str]:
    """Sends completions; returns the next calls, or the method's replies."""
    try:
      calls = self._generator.send(value)
    except StopIteration as stop:
      self.unended = isinstance(stop.value, Unended)
      return _texts(stop.value)
    self._single = isinstance(calls, ModelCall)
    calls = [calls] if self._single else list(calls)
    self._counts = [call.n for call in calls]
    self._replies = [None] * sum(self._counts)
    # A call for several replies is as many requests.
    return [call for call in calls for _ in range(call.n)]

  def receive(self, index: int, step: Step) -> bool:
    """Adds one reply; returns whether all replies are there."""
    self._replies[index] = step
    return None not in self._replies

  def advance(self) -> list[ModelCall] | list[str]:
    """Resumes with the replies to the last calls."""
    self.done += self._replies
    left = (step.completion for step in self._replies)
    groups = [list(itertools.islice(left, n)) for n in self._counts]
    values = [group[0] if len(group) == 1 else group for group in groups]
    return self.resume(values[0] if self._single else values)


def end_tokens(chat: ChatTemplate, prompts: Prompts) -> tuple[int, ...]:
  """Tokens that end a reply, whichever of these templates asks for it."""
  templates = for_chat(prompts, chat).values()
  chats = [chat.with_options(template.chat) for template in templates]
  return tuple(sorted({token for one in chats for token in one.end_tokens}))


def _texts(reply: Reply) -> list[str]:
  replies = reply if isinstance(reply, list) else [reply]
  return [one if isinstance(one, str) else one.text for one in replies]


class Scheduler:
  """Advances programs whenever the engine has their replies.

  Args:
    engine: draws the completions.
    chat: the chat template that makes prompts of asks.
    method: the generator function to run.
    prompts: its templates.
    seed: of the run.
    in_flight: programs in flight at once. More keep the batch fuller and merge
      more equal prompts, fewer lose less when the run is killed.
    drop_long: whether a prompt that does not fit the model's window ends its
      sample; else it is an error.
    share_prefixes: whether what every use of a template begins with is
      prefilled once.

  Attributes:
    in_flight: programs that are under way.
  """

  def __init__(
    self,
    engine: Engine,
    chat: ChatTemplate,
    method: Method,
    prompts: Prompts,
    *,
    seed: int,
    in_flight: int,
    drop_long: bool = False,
    share_prefixes: bool = True,
  ):
    self._engine = engine
    self._chat = chat
    self._method = method
    self._prompts = for_chat(prompts, chat)
    self._seed = seed
    self._most_in_flight = in_flight
    self._drop_long = drop_long
    self.in_flight = 0
    for template in self._prompts.values() if share_prefixes else ():
      engine.share_prefix(self._common_prefix(template))

  @property
  def rows(self) -> int:
    """Replies that fill a batch of its engine."""
    return self._engine.rows

  def run(
    self,
    jobs: Jobs,
    watch: Callable[[Job, list[Step], str], None] | None = None,
  ) -> Iterator[Result]:
    """Yields results as programs finish, in no particular order.

    Args:
      jobs: taken from the left as programs end; more may be added while the
        results are read.
      watch: gets the state of a sample in flight: its job, its steps so far,
        and the text of the next.

    Raises:
      UserError: a prompt does not fit the model's window, and `drop_long` is
        off.
    """
    self._engine.watch = watch and (
      lambda tag, text: watch(tag[0].job, tag[0].done, text)
    )
    yield from run_together({"": self}, jobs)

  def _begin(self, job: Job) -> Iterator[Result]:
    """Submits the first calls of a job, or yields its result."""
    think = self._method.think(job.fields, self._prompts)
    program = _Program(self, job, think)
    yield from self._go_on(program, program.resume(None))

  def _end_call(
    self, program: _Program, index: int, step: Step
  ) -> Iterator[Result]:
    """Goes on with a program if it has now all replies that it waits for."""
    if program.receive(index, step):
      self.in_flight -= 1
      yield from self._go_on(program, program.advance())

  def _go_on(
    self, program: _Program, following: list[ModelCall] | list[str]
  ) -> Iterator[Result]:
    """Submits the next calls of a program, or yields its result."""
    if not isinstance(following[0], ModelCall):
      job, unended = program.job, program.unended
      yield Result(job, program.done, following, unended=unended)
      return
    requests = self._requests(program, following)
    if self._drop_long:
      long = [len(r.prompt) for r in requests if not self._engine.fits(r)]
      if long:
        replies = [""] * self._method.replies(self._prompts)
        yield Result(program.job, program.done, replies, max(long))
        return
    self._submit(program.job, requests)
    self.in_flight += 1

  def _requests(
    self, program: _Program, calls: Sequence[ModelCall]
  ) -> list[Request]:
    job, requests = program.job, []
    for index, call in enumerate(calls):
      prompt = call.prompt(self._chat)
      tokens = self._chat.encode(prompt)
      number = len(program.done) + index
      name = (call.is_shared and job.shared_name) or job.name
      request = Request(
        tokens,
        random_key(self._seed, *name, number),
        dataclasses.replace(
          job.sampling, max_new_tokens=call.max_new_tokens, stop=call.stop
        ),
        tag=(program, index, prompt, len(tokens)),
      )
      requests.append(request)
    return requests

  def _submit(self, job: Job, requests: Sequence[Request]) -> None:
    for request in requests:
      try:
        self._engine.submit(request)
      except UserError as error:
        name = "/".join(str(part) for part in job.name)
        raise UserError(f"{name}: {error}") from None

  def _common_prefix(self, template: Template) -> tuple[int, ...]:
    """The tokens that every use of a template begins with."""
    calls = [
      template.ask(**dict.fromkeys(template.placeholders, filler))
      for filler in ("Alpha", "9 zebras")
    ]
    uses = [self._chat.encode(call.prompt(self._chat)) for call in calls]
    same = itertools.takewhile(
      lambda pair: pair[0] == pair[1], zip(*uses, strict=False)
    )
    return tuple(token for token, _ in same)


def run_together(
  schedulers: Mapping[str, Scheduler], jobs: Jobs
) -> Iterator[Result]:
  """Yields results of several schedulers, whose names their jobs have.

  They share an engine, whose batch stays full from the jobs of one to those of
  the next.

  Args:
    schedulers: by name.
    jobs: see `Scheduler.run`.
  """
  first, *_ = schedulers.values()
  for scheduler in schedulers.values():
    scheduler.in_flight = 0
  in_flight = lambda: sum(one.in_flight for one in schedulers.values())
  while True:
    while in_flight() < first._most_in_flight and jobs:
      job = jobs.popleft()
      yield from schedulers[job.scheduler]._begin(job)
    if not in_flight():
      return
    for (program, index, prompt, length), reply in first._engine.step():
      step = Step(prompt, length, reply)
      yield from program.scheduler._end_call(program, index, step)

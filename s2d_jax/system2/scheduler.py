"""Runs many System 2 programs at once over one batched engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import dataclasses
import itertools

from s2d_jax.errors import UserError
from s2d_jax.generation import chat
from s2d_jax.generation.engine import Completion, Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling
from s2d_jax.system2.program import Ask, Method, Prompts, Steps, Template


@dataclasses.dataclass(frozen=True)
class Job:
  """One pass of a method over one text.

  `name` says which pass this is, for instance (example, variant, sample): the
  randomness of its replies is derived from the seed and this name alone.
  """

  name: tuple[str | int, ...]
  text: str


@dataclasses.dataclass(frozen=True)
class Step:
  """One ask as it was put to the model, and the reply."""

  prompt: str
  completion: Completion


@dataclasses.dataclass(frozen=True)
class Result:
  job: Job
  steps: list[Step]
  reply: Completion


class _Program:
  """A job under way: its generator, and the replies it waits for."""

  def __init__(self, job: Job, steps: Steps):
    self.job = job
    self.generator = steps
    self.done: list[Step] = []
    self.prompts: list[str] = []
    self.replies: list[Completion | None] = []

  def resume(self, value) -> list[Ask] | Completion:
    """Hands over what was asked for; gives the next asks, or the reply."""
    try:
      asks = self.generator.send(value)
    except StopIteration as stop:
      return stop.value
    self.single = isinstance(asks, Ask)
    return [asks] if self.single else asks

  def receive(self, index: int, reply: Completion) -> bool:
    """Takes one reply; says whether the step is complete."""
    self.replies[index] = reply
    return None not in self.replies


class Scheduler:
  """Advances programs whenever the engine has their replies.

  Args:
    engine: draws the completions.
    tokenizer: has the chat template.
    method: the generator function to run.
    prompts: its templates.
    sampling: temperature and filters; an ask brings its own limit and stops.
    seed: of the run.
    in_flight: programs under way at once. More keep the batch fuller and merge
      more equal prompts, fewer lose less when the run is killed.
  """

  def __init__(
    self,
    engine: Engine,
    tokenizer,
    method: Method,
    prompts: Prompts,
    sampling: Sampling,
    *,
    seed: int,
    in_flight: int,
  ):
    self._engine = engine
    self._tokenizer = tokenizer
    self._method = method
    self._prompts = prompts
    self._sampling = sampling
    self._seed = seed
    self._in_flight = in_flight
    for template in prompts.values():
      engine.share_prefix(self._common_prefix(template))

  def run(self, jobs: Iterable[Job]) -> Iterator[Result]:
    """Yields results as programs finish, in no particular order."""
    waiting = iter(jobs)
    under_way = 0
    while True:
      for job in itertools.islice(waiting, self._in_flight - under_way):
        program = _Program(job, self._method(job.text, self._prompts))
        self._put(program, program.resume(None))
        under_way += 1
      if not under_way:
        return
      for (program, index), reply in self._engine.step():
        if not program.receive(index, reply):
          continue
        following = self._advance(program)
        if isinstance(following, Completion):
          under_way -= 1
          yield Result(program.job, program.done, following)
        else:
          self._put(program, following)

  def _advance(self, program: _Program) -> list[Ask] | Completion:
    program.done += map(Step, program.prompts, program.replies)
    replies = program.replies
    return program.resume(replies[0] if program.single else replies)

  def _put(self, program: _Program, asks: list[Ask]) -> None:
    program.prompts = [
      chat.render(self._tokenizer, ask.messages) for ask in asks
    ]
    program.replies = [None] * len(asks)
    for index, (ask, prompt) in enumerate(
      zip(asks, program.prompts, strict=True)
    ):
      number = len(program.done) + index
      request = Request(
        chat.encode(self._tokenizer, prompt),
        random_key(self._seed, *program.job.name, number),
        dataclasses.replace(
          self._sampling, max_new_tokens=ask.max_new_tokens, stop=ask.stop
        ),
        tag=(program, index),
      )
      try:
        self._engine.submit(request)
      except UserError as error:
        name = "/".join(str(part) for part in program.job.name)
        raise UserError(f"{name}: {error}") from None

  def _common_prefix(self, template: Template) -> tuple[int, ...]:
    """The tokens that every use of a template begins with."""
    uses = [
      chat.encode(
        self._tokenizer,
        chat.render(
          self._tokenizer,
          template.messages(**dict.fromkeys(template.gaps, filler)),
        ),
      )
      for filler in ("Alpha", "9 zebras")
    ]
    same = itertools.takewhile(
      lambda pair: pair[0] == pair[1], zip(*uses, strict=False)
    )
    return tuple(token for token, _ in same)

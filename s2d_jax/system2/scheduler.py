"""Runs many System 2 programs at once over one batched engine."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
import dataclasses
import itertools

from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.generation.engine import Completion, Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling
from s2d_jax.system2.program import (
  Ask,
  Fields,
  Method,
  Prompts,
  Reply,
  Steps,
  Template,
)

# Programs under way for each row of a batch: so many prompts wait then that
# those of a length are read together, and passes of several rounds that began
# late do not end long after all others.
PER_ROW = 4


@dataclasses.dataclass(frozen=True)
class Job:
  """One pass of a method over one input.

  `name` says which pass this is, for instance (example, variant, sample): the
  randomness of its replies is derived from the seed and this name alone.
  """

  name: tuple[str | int, ...]
  fields: Fields


@dataclasses.dataclass(frozen=True)
class Step:
  """One ask as it was put to the model, and the reply."""

  prompt: str
  completion: Completion


@dataclasses.dataclass(frozen=True)
class Result:
  """A pass that has ended.

  Attributes:
    job: whose pass this is.
    steps: every reply of the model, in the order of the asks.
    replies: what the method says to the user; more than one where it gives
      several answers to one thought.
  """

  job: Job
  steps: list[Step]
  replies: list[str]

  @property
  def tokens(self) -> int:
    """What the pass cost."""
    return sum(len(step.completion.tokens) for step in self.steps)


class _Program:
  """A job under way: its generator, and the replies it waits for."""

  def __init__(self, job: Job, steps: Steps):
    self.job = job
    self.done: list[Step] = []
    self._generator = steps

  def resume(self, value) -> list[Ask] | list[str]:
    """Hands over what was asked for; gives the next asks, or the replies."""
    try:
      asks = self._generator.send(value)
    except StopIteration as stop:
      return _texts(stop.value)
    self._single = isinstance(asks, Ask)
    asks = [asks] if self._single else list(asks)
    self._counts = [ask.n for ask in asks]
    self._replies = [None] * sum(self._counts)
    # An ask for several replies is as many requests.
    return [ask for ask in asks for _ in range(ask.n)]

  def receive(self, index: int, step: Step) -> bool:
    """Takes one reply; says whether all that was asked for is there."""
    self._replies[index] = step
    return None not in self._replies

  def advance(self) -> list[Ask] | list[str]:
    """Goes on with the replies of the last asks."""
    self.done += self._replies
    left = (step.completion for step in self._replies)
    groups = [list(itertools.islice(left, n)) for n in self._counts]
    values = [group[0] if len(group) == 1 else group for group in groups]
    return self.resume(values[0] if self._single else values)


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
    in_flight: programs under way at once. More keep the batch fuller and merge
      more equal prompts, fewer lose less when the run is killed.
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
  ):
    self._engine = engine
    self._chat = chat
    self._method = method
    self._prompts = prompts
    self._seed = seed
    self._in_flight = in_flight
    for template in prompts.values():
      engine.share_prefix(self._common_prefix(template))

  def run(
    self,
    jobs: collections.deque[Job],
    sampling: Sampling,
    watch: Callable[[Job, list[Step], str], None] | None = None,
  ) -> Iterator[Result]:
    """Yields results as programs finish, in no particular order.

    Args:
      jobs: taken from the left as there is room for them; more may be added
        while the results are read.
      sampling: temperature and filters; an ask brings its own limit and stops.
      watch: is told of a pass under way what it has so far: its steps, and the
        text of the next.
    """
    self._engine.watch = watch and (
      lambda tag, text: watch(tag[0].job, tag[0].done, text)
    )
    under_way = 0
    while True:
      while jobs and under_way < self._in_flight:
        job = jobs.popleft()
        think = self._method.think(job.fields, self._prompts)
        program = _Program(job, think)
        self._put(program, program.resume(None), sampling)
        under_way += 1
      if not under_way:
        return
      for (program, index, prompt), reply in self._engine.step():
        if not program.receive(index, Step(prompt, reply)):
          continue
        following = program.advance()
        if isinstance(following[0], Ask):
          self._put(program, following, sampling)
        else:
          under_way -= 1
          yield Result(program.job, program.done, following)

  def _put(
    self, program: _Program, asks: list[Ask], sampling: Sampling
  ) -> None:
    for index, ask in enumerate(asks):
      prompt = self._chat.prompt(ask.messages)
      number = len(program.done) + index
      request = Request(
        self._chat.encode(prompt),
        random_key(self._seed, *program.job.name, number),
        dataclasses.replace(
          sampling, max_new_tokens=ask.max_new_tokens, stop=ask.stop
        ),
        tag=(program, index, prompt),
      )
      try:
        self._engine.submit(request)
      except UserError as error:
        name = "/".join(str(part) for part in program.job.name)
        raise UserError(f"{name}: {error}") from None

  def _common_prefix(self, template: Template) -> tuple[int, ...]:
    """The tokens that every use of a template begins with."""
    uses = [
      self._chat.encode(
        self._chat.prompt(
          template.messages(**dict.fromkeys(template.gaps, filler))
        )
      )
      for filler in ("Alpha", "9 zebras")
    ]
    same = itertools.takewhile(
      lambda pair: pair[0] == pair[1], zip(*uses, strict=False)
    )
    return tuple(token for token, _ in same)

"""The requests that wait, by prompt, in the order in which prompts came."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, NamedTuple

from s2d_jax.generation.sampling import Sampling
from s2d_jax.generation.shapes import bucket


@dataclasses.dataclass(frozen=True)
class Request:
  """One completion to draw; `tag` comes back with it."""

  prompt: tuple[int, ...]
  key: int
  sampling: Sampling
  tag: Any = None


class Prompt(NamedTuple):
  """A prompt, and which shared prefix it begins with.

  Attributes:
    tokens: all of them.
    prefix_id: of the prefix; see `prefixes.PrefixStore`.
    prefix_length: tokens of it.
  """

  tokens: tuple[int, ...]
  prefix_id: int
  prefix_length: int

  @property
  def rest(self) -> tuple[int, ...]:
    """The tokens behind the prefix, which are prefilled."""
    return self.tokens[self.prefix_length :]

  @property
  def bucket(self) -> int:
    return bucket(len(self.tokens) - self.prefix_length)


class _Waiting(NamedTuple):
  """A prompt and its requests, oldest first."""

  prompt: Prompt
  requests: collections.deque[Request]


class PromptQueue:
  """Requests grouped by prompt, and prompts to prefill grouped by length.

  No operation looks at more than the prompts that it is about. A prompt whose
  last request was taken has left the queue; asked again, it stands at its end.

  Args:
    match: from tokens to id and length of the shared prefix they begin with.
  """

  def __init__(self, match: Callable[[Sequence[int]], tuple[int, int]]):
    self._match = match
    # Ordered dictionaries: to find the first entry of a plain one takes as long
    # as entries before it were deleted.
    self._waiting: collections.OrderedDict[tuple[int, ...], _Waiting] = (
      collections.OrderedDict()
    )
    # By bucket: those of the waiting prompts that are still to be prefilled.
    self._to_prefill: dict[
      int, collections.OrderedDict[tuple[int, ...], Prompt]
    ] = collections.defaultdict(collections.OrderedDict)

  def __bool__(self) -> bool:
    return bool(self._waiting)

  def __contains__(self, tokens: tuple[int, ...]) -> bool:
    return tokens in self._waiting

  def add(self, request: Request, is_prefilled: bool) -> None:
    """Queues a request; `is_prefilled` says whether its prompt is."""
    waiting = self._waiting.get(request.prompt)
    if waiting is None:
      prompt = Prompt(request.prompt, *self._match(request.prompt))
      waiting = _Waiting(prompt, collections.deque())
      self._waiting[request.prompt] = waiting
      if not is_prefilled:
        self._to_prefill[prompt.bucket][prompt.tokens] = prompt
    waiting.requests.append(request)

  def first(self) -> Prompt:
    """The prompt that has waited longest."""
    return next(iter(self._waiting.values())).prompt

  def take(self, tokens: tuple[int, ...]) -> Request | None:
    """The oldest request for a prompt, if there is one."""
    waiting = self._waiting.get(tokens)
    if waiting is None:
      return None
    request = waiting.requests.popleft()
    if not waiting.requests:
      del self._waiting[tokens]
      self._to_prefill[waiting.prompt.bucket].pop(tokens, None)
    return request

  def take_to_prefill(self, length: int, count: int) -> list[Prompt]:
    """The first prompts of a bucket that are to be prefilled, which now are."""
    prompts = self._to_prefill[length]
    return [
      prompts.popitem(last=False)[1] for _ in range(min(count, len(prompts)))
    ]

  def buckets(self) -> list[int]:
    """Of all prompts that wait."""
    return [waiting.prompt.bucket for waiting in self._waiting.values()]

  def match_again(self) -> None:
    """There is a new prefix, and what was prefilled is forgotten."""
    waiting = list(self._waiting.values())
    self._waiting.clear()
    self._to_prefill.clear()
    for _, requests in waiting:
      for request in requests:
        self.add(request, is_prefilled=False)

"""Chooses the rows of a batch where the config leaves them open.

With sampling.batch_rows = 0 they are as many as the devices hold, and as pay
(`planning.rows`). They go by the devices, the model and all inputs of a stage,
not by what is left to draw or free at the moment: a start that goes on on the
same devices chooses the same.
"""

from __future__ import annotations

import array
from collections.abc import Iterable, Mapping, Sequence
import functools
import itertools
from typing import NamedTuple

import jax
from jax.sharding import Mesh
import numpy as np

from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.generation.shapes import (
  LEAST_CAPACITY,
  bucket,
  is_one_cpu,
  rows_per_slot,
)
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.parallel import hosts, memory, topology
from s2d_jax.planning import rows
from s2d_jax.planning.decoding import Sampler
from s2d_jax.planning.programs import gib
from s2d_jax.planning.rows import Choice, Peaks
from s2d_jax.system2.program import (
  Fields,
  Method,
  Prompts,
  for_chat,
  frame_of,
)
from s2d_jax.system2.think import ThoughtTemplate

SETTING = "sampling.batch_rows"
# Rows where they are open and may not go by the devices.
FIXED = 128
# On a CPU products take longest from few rows on: with 64 the quickstart was
# sampled faster than with 128 (docs/performance.md).
_MOST_ON_CPU = 64
_TOGETHER = 1000  # prompts that are tokenised at once

_chosen: list[int] = []  # since they were last taken


class Inputs(NamedTuple):
  """What a method is asked about.

  Attributes:
    fields: of its templates, those of every input.
    replies: that are drawn of each.
  """

  fields: Iterable[Fields]
  replies: int


class Load(NamedTuple):
  """What a batch is to hold.

  Attributes:
    prompts: tokens of each, behind what it shares with all others.
    longest: tokens of the longest that may come, replies in it included.
    new: the most tokens of a reply.
    samples: replies that share a prompt, as a rule.
    replies: that are drawn in all.
  """

  prompts: Sequence[int]
  longest: int
  new: int
  samples: int
  replies: int


class Rows(NamedTuple):
  """What an engine is given."""

  rows: int
  slots: int


def load_of(
  chat: ChatTemplate,
  asked: Mapping[str, tuple[Method, Prompts]],
  inputs: Mapping[str, Inputs],
  samples: int,
  share_prefixes: bool,
) -> Load:
  """What is known of prompts and replies before anything is drawn.

  First prompts are measured. A later one has earlier replies in it: it is taken
  to be longer by all replies of its method, as long as they may be.

  Args:
    chat: makes prompts.
    asked: methods with their templates.
    inputs: of each of them.
    samples: replies that share a prompt, as a rule.
    share_prefixes: whether what a template begins with is held once.
  """
  lengths, longest, replies, new = array.array("i"), 1, 0, 1
  for name, (method, prompts) in asked.items():
    own = for_chat(prompts, chat)
    begin = [frame_of(one, chat).before for one in own.values()]
    fields = iter(inputs[name].fields)
    first = array.array("i")
    while some := list(itertools.islice(fields, _TOGETHER)):
      calls = [call for one in some for call in method.first_calls(one, own)]
      texts = [call.prompt(chat) for call in calls]
      first.extend(_behind(chat, texts, begin if share_prefixes else ()))
      replies += len(some) * inputs[name].replies
    spent = sum(one.n * one.max_new_tokens for one in own.values())
    later = spent if _asks_again(own) else 0
    lengths += first
    longest = max(longest, max(first, default=1) + later)
    new = max(new, *(one.max_new_tokens for one in own.values()))
  return Load(lengths or (1,), longest, new, samples, replies)


def _asks_again(prompts: Prompts) -> bool:
  """Whether a prompt may hold an earlier reply."""
  thinks = any(isinstance(one, ThoughtTemplate) for one in prompts.values())
  return thinks or len(prompts) > 1


def _behind(
  chat: ChatTemplate, texts: Sequence[str], before: Sequence[str]
) -> list[int]:
  """Tokens of prompts behind the longest of these beginnings."""
  shared = {text: len(chat.encode(text)) for text in before}

  def held_once(text: str) -> int:
    fitting = (n for begin, n in shared.items() if text.startswith(begin))
    return max(fitting, default=0)

  return [
    max(1, length - held_once(text))
    for text, length in zip(texts, chat.lengths(texts), strict=True)
  ]


def choose(
  model: Llama,
  params: Params,
  mesh: Mesh,
  load: Load,
  taken: int = 0,
) -> Rows:
  """The rows of a batch, and its slots; says so, and keeps it for the record.

  All hosts whose devices the mesh has choose the same.

  Args:
    model: the network.
    params: its parameters, on the devices of the mesh.
    mesh: of the devices.
    load: what the batch is to hold.
    taken: bytes of a device that are not its to use.

  Raises:
    UserError: not even the smallest batch fits.
  """
  devices = list(mesh.devices.flat)
  limit = memory.usable(devices) - taken
  is_of_host = len({device.process_index for device in devices}) == 1
  if not is_of_host:
    limit = hosts.least(SETTING, limit)
  parts = hosts.count() if is_of_host else 1  # each host draws its own
  choice, why = _chosen_of(
    Sampler(model, _abstract(params), mesh),
    load,
    limit,
    -(-load.replies // parts),
  )
  _say(f"{SETTING}: {why}")
  _chosen.append(choice.size.rows)
  return Rows(choice.size.rows, choice.size.batch.slots)


def _chosen_of(
  sampler: Sampler, load: Load, limit: int, replies: int
) -> tuple[Choice, str]:
  """What is chosen, and why, in words.

  By compiled programs; on a CPU by shapes, as few rows are enough there.
  """
  is_cpu = _is_cpu(sampler.mesh)
  pay = _MOST_ON_CPU * sampler.shards
  if is_one_cpu(sampler.mesh):  # which holds kernels twice
    limit -= sampler.weight_bytes
  new = bucket(load.new)
  longest = min(load.longest, sampler.model.config.max_context)
  buckets = np.fromiter(map(bucket, load.prompts), np.int32)
  found = list(
    rows.sizes(
      sampler,
      rows_per_slot(int(np.median(buckets)), load.samples, new),
      max(bucket(longest), LEAST_CAPACITY),
      new,
      Peaks.of(topology.chip_of(sampler.mesh.devices.flat[0])),
      limit,
      most=min(replies, pay) if is_cpu else replies,
    )
  )
  if is_cpu:
    choice = rows.choose(found, limit, worth=1.0)
  else:
    peak = lambda size: sampler.peak(sampler.arrays(size.batch), limit)
    choice = rows.compiled(found, limit, peak)
  if choice is None:
    raise UserError(
      f"not even {found[0].rows} rows of a batch fit: with what programs need"
      f" they take more than the {gib(limit)} that {SETTING}=0 may have of a"
      " device; use int8 weights, shorter replies or more devices for a copy of"
      " the model (sampling.mesh.tensor)"
    )
  if choice.size.rows >= replies:
    return choice, f"{choice.size.rows}, enough for {replies} replies"
  if is_cpu and choice.size.rows >= pay:
    return choice, f"{choice.size.rows}, as many as pay on a CPU"
  return choice, choice.why()


def taken() -> list[int]:
  """What was chosen since this was last asked."""
  found = list(dict.fromkeys(_chosen))
  _chosen.clear()
  return found


def _is_cpu(mesh: Mesh) -> bool:
  return mesh.devices.flat[0].platform == "cpu"


def _abstract(params: Params) -> Params:
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=leaf.sharding
    ),
    params,
  )


@functools.cache
def _say(line: str) -> None:
  """Once, as each way to ask may choose the same."""
  print(line, flush=True)

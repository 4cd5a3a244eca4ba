"""The shapes of generation: few, so that few programs are compiled.

Some go by the device. A CPU takes its time for padding and for every token that
there is capacity for, and has memory to spare.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from jax.sharding import Mesh

# Prompt tokens prefilled at once: enough to keep matrix units busy. A CPU has
# enough sooner.
_TOKENS_PER_PREFILL, _TOKENS_PER_PREFILL_CPU = 512, 256
# Prompt tokens that another row to share them pays for: at least, and as a part
# of the longest reply, since rows that share a prompt wait for each other.
_TOKENS_PER_SHARER, _REPLY_PER_SHARER = 32, 1 / 8
# The least capacity for tokens of a prompt: what most questions fit, so that
# those of all stages are answered by one program. A CPU sums over fewer than 32
# in another order: replies would tell by their last bits which came first.
LEAST_CAPACITY = 48
# Tokens of a page for replies. The last page of a reply is half empty in the
# mean; the sums that a page gives cost as much as some of its keys.
_PAGE = 256
# Pages a row at first, and by which factor they become more: a program is
# compiled each time, and all pages are copied.
_PAGES_PER_ROW, _GROWTH = 4, 1.25
# On a CPU a step takes as long as there are pages, and a program for more
# compiles in seconds. So rows begin with a page each, which most replies fit,
# as long as the rows together have so many tokens, and each at least so many.
_OWN_CPU, _OWN_ROW_CPU, _GROWTH_CPU = 4096, 32, 1.5
# Prefills that stay known on a CPU although nobody waits for their prompts.
# Elsewhere memory is dearer, and a prefill is cheap beside drawing.
_PREFILLS_KEPT_CPU = 8


class Room(NamedTuple):
  """For replies.

  Attributes:
    page: tokens of a page.
    pages_per_row: that there are at first.
    growth: by which factor they become more.
    shrinks: whether a step reads fewer again.
  """

  page: int
  pages_per_row: int
  growth: float
  shrinks: bool


class Sizes(NamedTuple):
  """What goes by the device.

  Attributes:
    tokens_per_prefill: prompt tokens that are prefilled at once.
    prefills_kept: that stay known although nobody waits for their prompts.
    room: for replies.
  """

  tokens_per_prefill: int
  prefills_kept: int
  room: Room


def is_one_cpu(mesh: Mesh) -> bool:
  return mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"


def sizes(rows: int, max_new_tokens: int, on_cpu: bool) -> Sizes:
  """Those of a batch of so many rows, on one CPU or elsewhere."""
  most = bucket(max_new_tokens)
  if not on_cpu:
    page = page_size(most)
    room = Room(page, min(_PAGES_PER_ROW, -(-most // page)), _GROWTH, True)
    return Sizes(_TOKENS_PER_PREFILL, 0, room)
  page = min(most, bucket(max(_OWN_CPU // rows, _OWN_ROW_CPU)))
  # What is cut out of an array is copied there.
  room = Room(page, 1, _GROWTH_CPU, shrinks=False)
  return Sizes(_TOKENS_PER_PREFILL_CPU, _PREFILLS_KEPT_CPU, room)


def page_size(most: int) -> int:
  """Tokens of a page where replies have at most so many, unless on a CPU."""
  return min(most, _PAGE)


def bucket(length: int) -> int:
  """Rounds a length up to 16, 32, 48, 64, 96, 128, 192, 256, …"""
  size = 16
  while size < length:
    if size >= 32 and size * 3 // 2 >= length:
      return size * 3 // 2
    size *= 2
  return size


def rows_per_slot(length: int, samples: int, reply: int) -> int:
  """How many samples of a prompt stand side by side in a slot: a power of 2.

  The rows of a slot read its prompt once, but the slot takes another prompt
  only when the last of them has ended: prompts that are short beside the
  replies are not worth the wait.

  Args:
    length: tokens of a prompt behind its shared prefix.
    samples: that are drawn of a prompt.
    reply: tokens of the longest reply that is allowed.
  """
  pays = max(_TOKENS_PER_SHARER, int(reply * _REPLY_PER_SHARER))
  most = max(1, min(samples, length // pays))
  return 1 << (most.bit_length() - 1)


def slots_on_mesh(slots: int, rows: int, shards: int, devices: int) -> int:
  """At least so many slots, of `rows` each, that a mesh can share.

  Each copy of the model, of which there are `shards`, has as many slots as any
  other, and each device draws tokens for as many rows.
  """
  unit = math.lcm(shards, devices // math.gcd(devices, rows))
  return -(-slots // unit) * unit


def prompts_per_prefill(
  length: int, slots: int, shards: int, tokens: int = _TOKENS_PER_PREFILL
) -> int:
  """Prompts of a bucket that are prefilled at once, as many on each copy."""
  count = min(tokens // length, slots)
  return max(1, count // shards) * shards

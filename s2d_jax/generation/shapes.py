"""The shapes of generation: few, so that few programs are compiled.

Some go by the device. A CPU takes its time for padding and for every token that
there is capacity for, and has memory to spare.
"""

from __future__ import annotations

from typing import NamedTuple

from jax.sharding import Mesh

# Prompt tokens prefilled at once: enough to keep matrix units busy. A CPU has
# enough sooner.
_TOKENS_PER_PREFILL, _TOKENS_PER_PREFILL_CPU = 512, 256
# Prompt tokens that another row to share them pays for.
_TOKENS_PER_SHARER = 32
# The least capacity for tokens of a prompt. A CPU sums over fewer in another
# order: replies would tell by their last bits which prompts came first.
LEAST_CAPACITY = 32
# Own tokens that a batch on a CPU has capacity for at first: all rows together,
# and each at least. Most replies end long before their limit, and a program for
# more compiles in seconds.
_OWN_CPU, _OWN_ROW_CPU = 4096, LEAST_CAPACITY
# Prefills that stay known on a CPU although nobody waits for their prompts.
# Elsewhere memory is dearer, and a prefill is cheap beside drawing.
_PREFILLS_KEPT_CPU = 8


class Sizes(NamedTuple):
  """What goes by the device.

  Attributes:
    tokens_per_prefill: prompt tokens that are prefilled at once.
    prefills_kept: that stay known although nobody waits for their prompts.
    own_capacity: tokens of its own that a row has capacity for at first.
  """

  tokens_per_prefill: int
  prefills_kept: int
  own_capacity: int


def is_one_cpu(mesh: Mesh) -> bool:
  return mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"


def sizes(mesh: Mesh, rows: int, max_new_tokens: int) -> Sizes:
  """Those of a batch of so many rows on the devices of `mesh`."""
  most = bucket(max_new_tokens)
  if not is_one_cpu(mesh):
    return Sizes(_TOKENS_PER_PREFILL, 0, most)
  at_first = bucket(max(_OWN_CPU // rows, _OWN_ROW_CPU))
  return Sizes(_TOKENS_PER_PREFILL_CPU, _PREFILLS_KEPT_CPU, min(most, at_first))


def bucket(length: int) -> int:
  """Rounds a length up to 16, 32, 48, 64, 96, 128, 192, 256, …"""
  size = 16
  while size < length:
    if size >= 32 and size * 3 // 2 >= length:
      return size * 3 // 2
    size *= 2
  return size


def rows_per_slot(length: int, samples: int) -> int:
  """How many samples of a prompt stand side by side in a slot: a power of 2.

  The rows of a slot read its prompt once, but the slot takes another prompt
  only when the last of them has ended: short prompts are not worth the wait.

  Args:
    length: tokens of a prompt behind its shared prefix.
    samples: that are drawn of a prompt.
  """
  most = max(1, min(samples, length // _TOKENS_PER_SHARER))
  return 1 << (most.bit_length() - 1)


def prompts_per_prefill(
  length: int, slots: int, shards: int, tokens: int = _TOKENS_PER_PREFILL
) -> int:
  """Prompts of a bucket that are prefilled at once, as many on each copy."""
  count = min(tokens // length, slots)
  return max(1, count // shards) * shards

"""The attention of TPUs beside the plain one, wherever there is no TPU.

Run as a program, it compares them on a mesh of several devices.
"""

from __future__ import annotations

import functools
import json
from unittest import mock

import jax
from jax.experimental.pallas.ops.tpu import splash_attention
import jax.numpy as jnp
import numpy as np

from s2d_jax.models.attention import attend
from s2d_jax.parallel import mesh as meshes

# Pallas' interpreter runs the kernel's own program on any device. (The one
# that also mimics a TPU's memory, `force_tpu_interpret_mode`, refuses kernels
# under vmap in jax 0.10.)
_interpreted = mock.patch.object(
  splash_attention,
  "make_splash_mha_single_device",
  functools.partial(
    splash_attention.make_splash_mha_single_device, interpret=True
  ),
)


def errors(mesh, length: int, size: int, **how) -> dict[str, float]:
  """Of the attended values and the gradients, relative to the largest.

  What padding attends to means nothing, and is left out.

  Two rows: three packed sequences of odd lengths and padding; one sequence.
  `how` is for `attend`: windows and caps.
  """
  rng = np.random.default_rng(size + length)
  make = lambda *shape: rng.normal(size=shape).astype(np.float32)
  q, out_gradient = make(2, length, 4, size), make(2, length, 4, size)
  k, v = make(2, 2, length, size), make(2, 2, length, size)
  ends = length * np.array([0.3, 0.31, 0.9])
  stops = np.array([*np.ceil(ends), 0], int)  # padding is seen by nobody
  packed = stops[np.searchsorted(stops[:3], np.arange(length), side="right")]
  until = np.stack([packed, np.full(length, length)])
  is_token = (until > 0)[:, :, None, None]

  def compute(kernel: str):
    @jax.jit
    def values_and_gradients(q, k, v):
      def apply(*qkv):
        return (
          attend(*qkv, jnp.asarray(until), implementation=kernel, **how)
          * is_token
        )

      out, pull_back = jax.vjp(apply, q, k, v)
      return dict(
        zip(
          ("out", "q", "k", "v"), (out, *pull_back(out_gradient)), strict=True
        )
      )

    return jax.tree.map(np.asarray, values_and_gradients(q, k, v))

  wanted = compute("xla")
  with meshes.use(mesh, training=True), _interpreted:
    got = compute("splash")
  return {
    name: float(
      np.abs(got[name] - wanted[name]).max() / np.abs(wanted[name]).max()
    )
    for name in wanted
  }


if __name__ == "__main__":
  parted = meshes.make_mesh(fsdp=2, tensor=2)
  print(json.dumps(errors(parted, length=256, size=64)))

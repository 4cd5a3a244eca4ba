"""Safetensors files that are written tensor by tensor.

The library wants all tensors of a file in memory. The format is a header that
says where each lies, and the tensors one behind the other:
github.com/huggingface/safetensors, README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import contextlib
import json
import math

from etils import epath
import jax.numpy as jnp
import numpy as np

_NAMES = {"float32": "F32", "bfloat16": "BF16"}
_ALIGNMENT = 8  # of the first tensor


@contextlib.contextmanager
def new(
  path: epath.PathLike, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype
) -> Iterator[Callable[[np.ndarray], None]]:
  """Yields what appends the next tensor, in the order of `shapes`."""
  dtype = jnp.dtype(dtype)
  header, at = {"__metadata__": {"format": "pt"}}, 0
  for name, shape in shapes.items():
    end = at + math.prod(shape) * dtype.itemsize
    header[name] = {
      "dtype": _NAMES[dtype.name],
      "shape": list(shape),
      "data_offsets": [at, end],
    }
    at = end
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % _ALIGNMENT)
  waiting = iter(shapes.values())
  with epath.Path(path).open("wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)

    def append(tensor: np.ndarray) -> None:
      assert (tensor.shape, tensor.dtype) == (next(waiting), dtype)
      file.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8))

    yield append
    assert next(waiting, None) is None

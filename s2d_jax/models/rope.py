"""Rotary position embedding (Su et al. 2021), with the ways to stretch it."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from s2d_jax.models.config import (
  LinearScaling,
  Llama3Scaling,
  ModelConfig,
  Rope,
  YarnScaling,
)

# Cosine and sine of each token's rotation, in float32: of every kind of rotary
# positions (`ModelConfig.ropes`), and of each of the C pairs of channels.
Angles = tuple[Float[Array, "P B T 1 C"], Float[Array, "P B T 1 C"]]


def rope_frequencies(rope: Rope | None, channels: int) -> np.ndarray:
  """Rotation speed of each pair of channels, radians a token: [C].

  A layer without positions turns nothing: its speeds are zero.
  """
  if rope is None:
    return np.zeros(channels // 2, np.float32)
  exponents = np.arange(0, channels, 2, dtype=np.float64) / channels
  frequencies = rope.theta**-exponents
  match rope.scaling:
    case LinearScaling(factor):
      frequencies = frequencies / factor
    case Llama3Scaling():
      frequencies = _llama3_scaled(frequencies, rope.scaling)
    case YarnScaling():
      frequencies = _yarn_scaled(frequencies, rope.theta, rope.scaling)
  return frequencies.astype(np.float32)


def _llama3_scaled(
  frequencies: np.ndarray, scaling: Llama3Scaling
) -> np.ndarray:
  """Slows the long wavelengths; see `Llama3Scaling` for the three bands."""
  wavelengths = 2 * math.pi / frequencies
  turns = scaling.original_context / wavelengths
  keep = (turns - scaling.low_freq_factor) / (
    scaling.high_freq_factor - scaling.low_freq_factor
  )
  keep = np.clip(keep, 0.0, 1.0)
  return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def _yarn_scaled(
  frequencies: np.ndarray, theta: float, scaling: YarnScaling
) -> np.ndarray:
  """Slows the pairs that turn seldom (Peng et al. 2023, section 3.2)."""
  pairs = len(frequencies)

  def pair_of(turns: float) -> float:
    """Which one turns so many times in the original context, in fractions."""
    wavelength = scaling.original_context / (turns * 2 * math.pi)
    return pairs * math.log(wavelength) / math.log(theta)

  low, high = pair_of(scaling.beta_fast), pair_of(scaling.beta_slow)
  if scaling.truncate:
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, 2 * pairs - 1)
  width = high - low or 0.001  # as transformers has it, to divide by
  slowed = np.clip((np.arange(pairs) - low) / width, 0.0, 1.0)
  return (1 - slowed) * frequencies + slowed * frequencies / scaling.factor


def _magnitude(rope: Rope | None) -> float:
  """What rotated queries and keys are multiplied by."""
  yarn = rope is not None and isinstance(rope.scaling, YarnScaling)
  return rope.scaling.magnitude if yarn else 1.0


def rope_angles(config: ModelConfig, positions: Int[Array, "B T"]) -> Angles:
  """Cosine and sine of each token's rotation, of every kind, in float32."""
  kinds, channels = config.ropes, config.rotary_channels
  speeds = np.stack([rope_frequencies(kind, channels) for kind in kinds])
  magnitudes = np.array([_magnitude(kind) for kind in kinds], np.float32)
  positions = positions.astype(jnp.float32)[None, :, :, None, None]
  angles = positions * speeds[:, None, None, None]
  magnitudes = magnitudes.reshape(-1, 1, 1, 1, 1)
  return jnp.cos(angles) * magnitudes, jnp.sin(angles) * magnitudes


def apply_rope(
  x: Float[Array, "B T N H"],
  angles: tuple[Float[Array, "B T 1 C"], Float[Array, "B T 1 C"]],
) -> Float[Array, "B T N H"]:
  """Rotates channel i with channel i + C, the layout of Hugging Face.

  Channels behind the first 2 C are left as they are.
  """
  cos, sin = angles
  pairs = cos.shape[-1]
  x1, x2, rest = jnp.split(x.astype(jnp.float32), [pairs, 2 * pairs], axis=-1)
  rotated = [x1 * cos - x2 * sin, x2 * cos + x1 * sin, rest]
  return jnp.concatenate(rotated, axis=-1).astype(x.dtype)

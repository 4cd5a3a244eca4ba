"""Rotary position embedding (Su et al. 2021), with Llama 3's scaling."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from s2d_jax.models.config import Llama3Scaling, ModelConfig

# Cosine and sine of each token's rotation, in float32.
Angles = tuple[Float[Array, "B T 1 H/2"], Float[Array, "B T 1 H/2"]]


def rope_frequencies(config: ModelConfig) -> np.ndarray:
  """Rotation speed of each pair of channels, radians a token: [H // 2]."""
  exponents = np.arange(0, config.head_dim, 2, dtype=np.float64)
  frequencies = config.rope_theta ** -(exponents / config.head_dim)
  if config.rope_scaling is not None:
    frequencies = _llama3_scaled(frequencies, config.rope_scaling)
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


def rope_angles(config: ModelConfig, positions: Int[Array, "B T"]) -> Angles:
  """Cosine and sine of each token's rotation, in float32."""
  frequencies = jnp.asarray(rope_frequencies(config))
  angles = positions.astype(jnp.float32)[:, :, None, None] * frequencies
  return jnp.cos(angles), jnp.sin(angles)


def apply_rope(
  x: Float[Array, "B T N H"], angles, channels: int = -1
) -> Float[Array, "B T N H"]:
  """Rotates channel i with channel i + H/2, the layout of Hugging Face.

  `channels` is the axis that they lie along; `angles` fit to each half of x.
  """
  cos, sin = angles
  x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=channels)
  rotated = jnp.concatenate(
    [x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=channels
  )
  return rotated.astype(x.dtype)

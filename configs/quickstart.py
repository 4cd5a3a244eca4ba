"""System 2 Attention into SmolLM2-135M-Instruct on a laptop, in minutes."""

from s2d_jax.config import default


def get_config():
  return default()

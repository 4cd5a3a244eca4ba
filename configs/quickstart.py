"""System 2 Attention into SmolLM2-135M-Instruct, on a laptop, in minutes."""

from s2d_jax.config import default


def get_config():
  """Country facts, asked with and without an opinion of the asker."""
  config = default()
  with config.unlocked():
    config.task.kinds = ("capital", "continent")
    config.task.min_population = 2_000_000
    config.task.valid = 10  # countries
    config.task.test = 40  # countries
  config.sampling.n = 4
  config.curation.min_margin = 0.5
  config.curation.min_agreement = 1.0
  config.evaluation.n = 4
  return config

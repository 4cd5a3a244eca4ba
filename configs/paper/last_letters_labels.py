"""Last-letter concatenation, trained on the labels: the upper bound.

Not in the paper's table as quoted here; every other row of the task is to be
read against it.
"""

from s2d_jax.presets import sibling


def get_config(model: str = "llama-2-70b-chat"):
  """Nothing is sampled; the right answers are the targets, as bare letters."""
  config = sibling(__file__, "last_letters_rar2.py")(model)
  config.curation.select = "label"
  return config

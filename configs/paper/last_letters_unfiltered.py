"""Last-letter concatenation, two steps, distilled without the filter.

The paper (arXiv 2407.06023), Llama-2-70B-chat: distilled 87.5 % (~), against
98.0 % with the majority vote.
"""

from s2d_jax.presets import sibling


def get_config(model: str = "llama-2-70b-chat"):
  """The target is each input's first answer, whatever the other samples say."""
  config = sibling(__file__, "last_letters_rar2.py")(model)
  config.curation.select = "first"
  config.sampling.n = 1
  return config

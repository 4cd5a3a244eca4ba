"""Last-letter concatenation, System 1 distilled on its own votes.

The paper (arXiv 2407.06023), Llama-2-70B-chat: distilled 69.5 % (~), against
98.0 % from Rephrase-and-Respond in two steps.
"""

from s2d_jax.presets import sibling


def get_config(model: str = "llama-2-70b-chat"):
  """The target is the majority of direct answers: no thinking anywhere."""
  config = sibling(__file__, "last_letters_rar2.py")(model)
  config.method = "system1"
  with config.unlocked():
    del config.prompts.respond
  return config

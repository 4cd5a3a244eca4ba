"""Last-letter concatenation, Rephrase-and-Respond in one step.

The paper (arXiv 2407.06023), Llama-2-70B-chat: System 1 30.0 %, System 2 39.5 %
(~). Distilling the one-step method is not in its table.
"""

from s2d_jax.presets import sibling


def get_config(model: str = "llama-2-70b-chat"):
  """As in two steps, but the model restates and answers in one reply."""
  config = sibling(__file__, "last_letters_rar2.py")(model)
  config.method = "rar1"
  with config.unlocked():
    del config.prompts.respond
  return config

"""GSM8K, a chain of thought that is taken away stage by stage.

    s2d pipeline --config=configs/internalise.py:llama-3.2-1b \\
      --workdir=runs/internalise

Behind the colon: the preset of a model. The paper's row teaches the answers
alone (configs/paper/gsm8k_cot.py), and they are not learnt; Deng, Choi and
Shieber (2024) report 51 % with Mistral-7B that was taught so, from given
thoughts.
"""

from s2d_jax.presets import sibling


def get_config(model: str = "llama-3.2-1b"):
  """Eight stages of the shortest thought that won the vote, an epoch each."""
  config = sibling(__file__, "paper/gsm8k_cot.py")(model)
  config.task.valid_size = 400  # the stage is chosen by them, without labels
  config.curation.min_margin = 0.3  # a wrong answer has a wrong thought
  config.curation.target = "shortest_thought"
  config.finetune.row_length = 1024  # a question with its thought
  config.internalise.stages = 8
  return config

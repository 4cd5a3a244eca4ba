"""GSM8K, chain of thought: the known case that does not distil.

The paper (arXiv 2407.06023), Llama-2-70B-chat: System 1 7.6 %, System 2 52.8 %
at 270 tokens, distilled 7.1 % at 18 tokens.
"""

from s2d_jax.config import default
from s2d_jax.presets import use_model


def get_config(model: str = "llama-2-70b-chat"):
  """10 samples of each training question; the target is the majority answer."""
  config = default()
  config.method = "cot"
  config.task.name = "gsm8k"
  with config.unlocked():
    config.task.train = "hf:openai/gsm8k:main:train"
    config.task.test = "hf:openai/gsm8k:main:test"
    config.task.valid_size = 200
    config.prompts.system1 = {"max_new_tokens": 32}
  config.sampling.n = 10
  config.sampling.temperature = 1.0
  config.sampling.top_p = 0.9
  config.curation.min_margin = 0.0  # any majority
  config.curation.min_agreement = 0.0
  config.curation.target = "own_words"  # the last statement, not the chain
  config.finetune.eval_every = 50
  config.evaluation.n = 10
  return use_model(config, model)

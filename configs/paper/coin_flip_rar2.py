"""Coin flips of two people, Rephrase-and-Respond in two steps.

The paper (arXiv 2407.06023), Llama-2-70B-chat: System 1 56.1 % (~), one-step
System 2 58.6 % (~), two-step 77.2 % (~), distilled 75.7 % (~).
"""

from s2d_jax.config import default
from s2d_jax.presets import use_model


def get_config(model: str = "llama-2-70b-chat"):
  """8 restatements of each input, 8 answers to each; nested majority votes."""
  config = default()
  config.method = "rar2"
  config.task.name = "coin_flip"
  with config.unlocked():
    config.task.people = 2
    config.task.train, config.task.valid = 20_000, 3_330
    config.task.test = 1_330
    # Of the model's own words, so none is asked to be "yes" or "no" only.
    config.prompts.system1 = {
      "user": "{text}\nAnswer with {format}.",
      "max_new_tokens": 64,
      "stop": (),
    }
    config.prompts.respond = {
      "user": (
        "Question: {text}\nThe same, restated: {restated}\n\nAnswer the"
        " question with the help of the restatement. Answer with {format}."
      ),
      "n": 8,
    }
  config.sampling.n = 8
  config.sampling.temperature = 1.0
  config.sampling.top_p = 0.9
  config.curation.min_margin = 0.0  # any majority
  config.curation.min_agreement = 0.0
  config.curation.target = "own_words"
  config.finetune.eval_every = 50
  config.evaluation.n = 8
  return use_model(config, model)

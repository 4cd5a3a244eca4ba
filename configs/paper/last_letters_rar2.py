"""Last-letter concatenation, Rephrase-and-Respond in two steps.

The paper (arXiv 2407.06023), Llama-2-70B-chat, right answers on 200 test
inputs: System 1 30.0 %, one-step System 2 39.5 % (~), two-step 44.5 % (~),
distilled 98.0 % at about 25 tokens. What has a ~ is as reported, not re-read.

Another model by its preset: configs/paper/last_letters_rar2.py:smollm2-360m
"""

from s2d_jax.config import default
from s2d_jax.presets import use_model


def get_config(model: str = "llama-2-70b-chat"):
  """200 inputs to learn from, 8 samples each, and their majority vote.

  Taught is the most frequent reply with the answer that won.
  """
  config = default()
  config.method = "rar2"
  config.task.name = "last_letters"
  with config.unlocked():
    config.task.words = 2
    config.task.train, config.task.valid, config.task.test = 200, 200, 200
    # The target is a sentence of about 25 tokens, so none is asked to be short.
    config.prompts.system1 = {
      "user": "{text}",
      "max_new_tokens": 64,
      "stop": (),
    }
    config.prompts.respond = {
      "user": (
        "Question: {text}\nThe same, restated: {restated}\nAnswer the question"
        " with the help of the restatement."
      ),
      "shots": (),  # those of the task reply with letters alone
      "max_new_tokens": 64,
    }
  config.sampling.n = 8
  config.sampling.temperature = 1.0
  config.sampling.top_p = 0.9
  config.curation.min_margin = 0.0  # any majority
  config.curation.min_agreement = 0.0
  config.curation.target = "own_words"
  config.finetune.epochs = 5
  config.evaluation.n = 8
  return use_model(config, model)

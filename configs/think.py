"""A model's own thinking into its direct answers: GSM8K, or your own questions.

    s2d pipeline --config=configs/think.py:qwen3-1.7b --workdir=runs/think
    s2d pipeline --config=configs/think.py:qwen3-1.7b,questions.csv \\
      --workdir=runs/mine

Behind the colon: the preset of a model that thinks, and perhaps a file with the
columns question and answer; the answers are for the report alone.
"""

from s2d_jax.config import default
from s2d_jax.presets import use_model


def get_config(model_and_file: str = "qwen3-0.6b"):
  """Thinking on for the samples, off for System 1 and the student."""
  model, _, file = model_and_file.partition(",")
  config = default()
  config.method = "think"
  with config.unlocked():
    if file:
      config.task.name = "custom"
      config.task.train = file
      config.task.prompt = "{question}"
      config.task.answer = {"kind": "text"}  # or number, choice …
      config.task.label = "answer"
    else:
      config.task.name = "gsm8k"
      config.task.train = "hf:openai/gsm8k:main:train"
      config.task.train_size, config.task.valid_size = 2_000, 100
      config.task.test = "hf:openai/gsm8k:main:test"
      config.task.test_size = 300
    config.prompts.think = {
      "max_new_tokens": 4_096,
      "budget_forcing": False,
      "answer_tokens": 256,
    }
  use_model(config, model)
  config.sampling.n = 5
  # As advised for Qwen 3; greedily such a model may think in circles.
  config.sampling.temperature = 0.6
  config.sampling.top_k, config.sampling.top_p = 20, 0.95
  config.sampling.batch_rows = 32  # each with thousands of tokens
  config.curation.min_margin = 0.5
  config.curation.min_agreement = 0.0
  config.finetune.row_length = 512
  config.finetune.eval_every = 25
  config.evaluation.n = 3
  return config

"""SycophancyEval's factual questions, System 2 Attention.

The paper (arXiv 2407.06023), Llama-2-70B-chat, on biased prompts: System
1 51.6 %, System 2 76.0 %, distilled 81.3 %; on unbiased ones 73.8 % to 78.6 %
(~); tokens 165 to 56 (~).

The questions are a file of the Hub; fetch it once:

    hf download meg-tong/sycophancy-eval answer.jsonl --repo-type dataset \\
      --local-dir data/sycophancy-eval
"""

from s2d_jax.config import default
from s2d_jax.presets import use_model


def get_config(model: str = "llama-2-70b-chat"):
  """20 samples; the model chooses the one that agrees best with the others."""
  config = default()
  config.method = "s2a"
  config.task.name = "opinions"
  with config.unlocked():
    config.task.format = "sycophancy_eval"
    config.task.train = "data/sycophancy-eval/answer.jsonl"
    config.task.train_size = 1_667  # questions, in four variants each
    config.task.valid_size, config.task.test_size = 100, 100
    config.prompts.system1 = {"max_new_tokens": 256}
  config.sampling.n = 20
  config.sampling.temperature = 1.0
  config.sampling.top_p = 0.9
  config.curation.select = "usc"
  config.curation.min_margin = 0.0
  config.curation.min_agreement = 0.0
  config.curation.target = "own_words"
  config.finetune.row_length = 512
  config.finetune.eval_every = 50
  config.evaluation.n = 20
  return use_model(config, model)

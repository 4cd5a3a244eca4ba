"""Pairwise judge, Branch-Solve-Merge.

The paper (arXiv 2407.06023), Llama-2-70B-chat, MT-bench: agreement with people
System 1 28.1 %, System 2 64.5 % at about 2,064 tokens, distilled 72.4 % at 4
tokens; inconsistent under swapped answers 80.9 % before, 9.1 % after.
"""

from s2d_jax.config import default
from s2d_jax.presets import use_model


def get_config(model: str = "llama-2-70b-chat"):
  """A verdict is kept if it is the same in both orders of the answers."""
  config = default()
  config.method = "bsm"
  config.task.name = "judge"
  with config.unlocked():
    config.task.format = {
      "train": "oasst2",
      "valid": "oasst2",
      "test": "mt_bench",
    }
    config.task.train = "hf:OpenAssistant/oasst2:train"
    config.task.train_size = None  # all: one pair a question; the paper
    # has 19,672 (~), so several a question
    config.task.valid = "hf:OpenAssistant/oasst2:validation"
    config.task.valid_size = 200
    config.task.test = "hf:lmsys/mt_bench_human_judgments:human"
    config.task.test_size = None  # all pairs that people judged
  config.sampling.n = 1
  config.sampling.temperature = 0.7
  config.sampling.top_p = 0.9
  config.curation.min_margin = 0.0
  config.curation.min_agreement = 1.0  # both orders
  config.finetune.row_length = 2048
  config.finetune.eval_every = 50
  config.evaluation.n = 1
  return use_model(config, model)

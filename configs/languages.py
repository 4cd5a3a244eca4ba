"""Decomposition into SmolLM2-135M-Instruct: do two countries share a language?

    s2d pipeline --config=configs/languages.py --workdir=runs/languages

What is learnt is the shortest thought, two languages and the answer.
"""

from s2d_jax.config import default


def get_config():
  """Each country is asked for its language, and the answers are compared."""
  config = default()
  config.method = "decompose"
  config.task.name = "same_language"
  with config.unlocked():
    config.prompts.part = {"n": 3}
  config.sampling.n = 1
  config.sampling.batch_rows = 64  # on a CPU, fewer have a shorter end
  config.curation.target = "shortest_thought"
  config.curation.min_margin = 0.0
  config.curation.min_agreement = 0.0  # the two orders are answered apart
  config.curation.balance = True
  config.finetune.learning_rate = 1e-4
  config.finetune.epochs = 6  # of few pairs: there are few such countries
  config.finetune.batch_rows = 2
  config.finetune.warmup_steps = 2
  config.finetune.eval_every = 5
  config.finetune.async_save = False  # a second copy of the state is a GB
  config.evaluation.n = 3
  config.retention.questions = 64
  return config

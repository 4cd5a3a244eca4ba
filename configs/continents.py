"""Decomposition into SmolLM2-135M-Instruct: are two countries on a continent?

    s2d pipeline --config=configs/continents.py --workdir=runs/continents

Behind the colon is what is learnt (`--config=configs/continents.py:thought`):
"unfiltered", the answers of System 2; "filtered", those that win a vote;
"thought", the two facts and the answer, of fewer pairs.
"""

from s2d_jax.config import behind_colon, default

# Samples of a pair, and by how much one answer must lead among them.
_KEPT = {"unfiltered": (1, 0.0), "filtered": (3, 0.6), "thought": (1, 0.0)}


def get_config(taught: str = "unfiltered"):
  """Each country is asked for its continent, and the answers are compared."""
  config = default()
  config.method = "decompose"
  config.task.name = "same_continent"
  with config.unlocked():
    config.task.train = 2000  # pairs; there are hardly more that are balanced
    config.task.valid = 80
    config.task.test = 200
    # The vote is taken of each fact: one of merged answers would say "no" too
    # often, as two facts that are wrong now and then seldom agree.
    config.prompts.part = {"n": 3}
    # Are the facts that the answers are made of still there?
    config.retention.tasks.continents = {
      "name": "sycophancy",
      "kinds": ("continent",),
    }
  config.sampling.n, config.curation.min_margin = behind_colon(
    _KEPT, taught, __file__
  )
  config.sampling.confidence = 0.0  # so few are drawn faster all at once
  config.sampling.batch_rows = 64  # on a CPU, fewer have a shorter end
  config.curation.min_agreement = 0.0  # each is asked in one order
  # Two facts of which one is wrong seldom agree: System 2 says "no" too often.
  config.curation.balance = True
  config.finetune.learning_rate = 1e-4
  config.finetune.epochs = 2
  config.finetune.batch_rows = 2
  config.finetune.eval_every = 20
  config.finetune.async_save = False  # a second copy of the state is a GB
  config.evaluation.n = 3
  config.retention.questions = 64
  if taught == "thought":
    config.curation.target = "shortest_thought"
    config.task.train = 600  # where a thought is taught, few are enough
    config.finetune.epochs = 1
    config.finetune.warmup_steps = 2
    config.finetune.eval_every = 5
  return config

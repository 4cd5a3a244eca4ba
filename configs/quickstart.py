"""System 2 Attention into SmolLM2-135M-Instruct, on a laptop, in minutes.

    s2d pipeline --config=configs/quickstart.py --workdir=runs/quickstart

Behind the colon is how much is asked of the model before and after
(`--config=configs/quickstart.py:many`): "few", what minutes allow; "many", for
figures with narrower intervals, as in docs/evidence.md. It then learns from
other countries, as the test takes its own first.
"""

from s2d_jax.config import behind_colon, default

# Countries of the validation and of the test split; for what it did to the
# rest, items of another task, and everyday questions.
_ASKED = {"few": (4, 24, 12, 12), "many": (6, 42, 30, 24)}


def get_config(asked: str = "few"):
  """Country facts, asked with and without an opinion of the asker."""
  valid, test, others, everyday = behind_colon(_ASKED, asked, __file__)
  config = default()
  config.method = "s2a_few_shot"
  with config.unlocked():
    config.task.kinds = ("capital", "continent")
    config.task.min_population = 2_000_000
    config.task.train = 60  # countries, so 120 questions, each in one form
    config.task.valid = valid
    # One question about each country, in three forms: more countries tell more
    # than more questions about the same ones.
    config.task.test = test
    config.task.test_kinds = "one"
    config.task.test_forms = ("plain", "suggests_wrong", "suggests_right")
    # A kind of fact that is not taught, about the countries of the test.
    currency = {**config.task.to_dict(), "kinds": ("currency",)}
    config.retention.tasks = {"currency": currency}
  config.sampling.batch_rows = 64  # on a CPU, fewer have a shorter end
  config.sampling.n = 5
  config.sampling.confidence = 0.0  # so few are drawn faster all at once
  config.curation.min_margin = 0.4
  # The form as sent and the one with another suggestion win with one answer.
  config.curation.min_agreement = 1.0
  config.finetune.learning_rate = 3e-5
  config.finetune.epochs = 2
  config.finetune.batch_rows = 2
  config.finetune.eval_every = 10
  config.finetune.async_save = False  # a second copy of the state is a GB
  config.evaluation.n = 3
  config.retention.n = others
  config.retention.questions = everyday
  return config

"""Tasks that were tried with SmolLM2-135M-Instruct, whose thinking fails there.

    s2d prepare --config=configs/trials.py:sums --workdir=runs/sums
    s2d evaluate --config=configs/trials.py:sums --workdir=runs/sums

Behind the colon: "sums", of two digits, by columns; "last_letters", of two
words that are spelled in steps; "rephrased", of two that a first reply spells.
docs/evidence.md has what came out. Larger models may fare better:
`--config.model.name=…`.
"""

from s2d_jax.config import behind_colon, default

_METHODS = {
  "sums": ("sums", "cot_few_shot"),
  "last_letters": ("last_letters", "cot_few_shot"),
  "rephrased": ("last_letters", "rar2"),
}


def get_config(tried: str = "sums"):
  """System 1, System 1 behind worked examples, and System 2."""
  config = default()
  with config.unlocked():
    config.task.name, config.method = behind_colon(_METHODS, tried, __file__)
    if config.task.name == "sums":
      config.task.digits = 2
    config.task.train = config.task.valid = 8
    config.task.test = 50
  config.sampling.batch_rows = 64  # on a CPU, fewer have a shorter end
  config.evaluation.n = 3
  return config

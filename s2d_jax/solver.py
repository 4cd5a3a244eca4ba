"""A run that answers: at once where that stands, by thinking where it pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import functools
from typing import Any

from etils import epath

from s2d_jax.stages import gated, setup
from s2d_jax.stages.gated import GatedRun, Solution

# Two models of at most so many weights stay on the devices together.
_MOST_WEIGHTS = 1_000_000_000


class Solver:
  """The distilled model of a run, its base model, and the gate between them.

  solver = Solver.load("runs/continents")
  solver.answer(["Are Peru and Fiji on the same continent?"], budget=10)

  The distilled model answers everything directly, then the base model thinks
  about what the gate does not let pass. Models of at most a billion weights
  both stay on the devices; of larger ones there is one at a time, which each
  call loads anew.

  Args:
    run: as `gated.open_run` gives it.
  """

  def __init__(self, run: GatedRun):
    self._run = run
    config = run.config
    fast = functools.partial(setup.distilled_model, config, run.workdir)
    slow = functools.partial(setup.base_model, config)
    weights = setup.base_without_weights(config).config.num_params
    if weights <= _MOST_WEIGHTS:
      fast, slow = functools.cache(fast), functools.cache(slow)
    self._models = fast, slow

  @classmethod
  def load(cls, name: epath.PathLike, dtype: str | None = None) -> Solver:
    """Opens a run, whose folder is not changed; models load when needed.

    Args:
      name: the folder of a run with a gate (`s2d gate`).
      dtype: of the products, "float32", "bfloat16" or "auto"; None: the run's.
    """
    return cls(gated.open_run(name, dtype))

  def answer(
    self,
    texts: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],
    *,
    budget: float | None = None,
    agreement: float | None = None,
    quiet: bool = True,
  ) -> list[Solution]:
    """Answers each text, by thinking where its direct answer does not stand.

    The same text has the same answer, whatever else is asked; one of the run's
    test split has the one that it has in eval/.

    Args:
      texts: questions of the run's task, or one; a mapping with "inputs" is one
        as in the run's examples/, with "variant" unless it is asked plainly.
      budget: mean generated tokens an answer, over inputs such as the
        validation split's. With neither this nor `agreement` the run's own
        working point counts.
      agreement: a direct answer stands that System 2's vote would repeat with
        this probability.
      quiet: shows no progress.

    Returns:
      For each text its answer, and how it was found at which cost.

    Raises:
      UserError: the task cannot be asked so, or there is no such working point.
    """
    run = self._run.at(budget, agreement)
    is_one = isinstance(texts, str | Mapping)
    asked = [
      run.inputs.read(text, f"texts[{place}]")
      for place, text in enumerate([texts] if is_one else texts)
    ]
    return run.solve(asked, *self._models, quiet)

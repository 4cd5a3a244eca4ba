"""Tests whether the base model has read the test split before.

Optional, and no part of the pipeline. Reads examples/test.jsonl of a run, and
writes eval/contamination.json, which the report shows. Two tests: is the data
set's own order of rows likelier than random ones (Oren et al. 2023; for rows of
a public data set), and does the model know the word that is left out of a
question?
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import json

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.errors import UserError
from s2d_jax.evaluation import exchangeability, masked_words
from s2d_jax.evaluation.likelihood import Likelihood, log_likelihoods
from s2d_jax.parallel import hosts, mesh as meshes
from s2d_jax.stages import program, setup
from s2d_jax.tasks.task import Example, Task, read_examples, source_place

_SHUFFLES = flags.DEFINE_integer(
  "shuffles",
  99,
  "Random orders that the data set's own order is compared with; the least"
  " p-value is 1 / (shuffles + 1).",
  lower_bound=19,
)
_WINDOW = 1024  # tokens that are read at once, at most
_ROWS = 8  # texts that are read at once
_SEPARATOR = "\n\n"
NO_ORDER = (
  "the examples of this task are generated or named by the user, so that they"
  " have no public order that a model could have read them in"
)


@program.stage("contamination", on="all")
def measure(config: ConfigDict, workdir: epath.Path) -> str:
  """Both tests, as far as they apply."""
  path = setup.examples_path(workdir, "test")
  if not path.exists():
    raise UserError(f"{path} does not exist; run the prepare stage first")
  task, examples = setup.task_of(config), read_examples(path)
  reader = _Reader(config, setup.base_model(config))
  ordered = _in_order(task, examples)
  order = reader.order(_questions(task, ordered)) if ordered else None
  why = "" if ordered else NO_ORDER
  if ordered and order is None:
    why = "no two rows fit the model's window together"
  guesses = reader.guesses(_questions(task, examples))
  found = {
    "order": order and dataclasses.asdict(order),
    "why_no_order": why,
    "guesses": dataclasses.asdict(guesses),
  }
  if hosts.is_lead():
    path = workdir / "eval" / "contamination.json"
    records.write_text(path, json.dumps(found, indent=2) + "\n")
  told = f"p = {order.p_value:.3f}" if order else f"does not apply: {why}"
  return (
    f"test of the order of rows {told}; of {guesses.questions} masked words"
    f" {guesses.guessed} were guessed, {guesses.elsewhere} behind another"
    " question"
  )


def _in_order(task: Task, examples: Sequence[Example]) -> list[Example]:
  """By their rows in the source; none where that is not known."""
  places = [source_place(task, example) for example in examples]
  if None in places:
    return []
  return [
    examples[i] for i in sorted(range(len(places)), key=places.__getitem__)
  ]


def _questions(task: Task, examples: Sequence[Example]) -> list[str]:
  return [task.fields(example, task.plain)["text"] for example in examples]


class _Reader:
  """The base model, as it reads texts."""

  def __init__(self, config: ConfigDict, model: Pretrained):
    setup.enable_compilation_cache()
    self._model = model
    self._network = setup.network(config, model)
    self._mesh = setup.sampling_mesh(config, model.config)
    self._seed = config.seed
    begin = model.tokenizer.bos_token_id
    self._begin = self._tokens(_SEPARATOR) if begin is None else [begin]

  def order(
    self, rows: Sequence[str]
  ) -> exchangeability.Exchangeability | None:
    count = _SHUFFLES.value
    window = min(_WINDOW, self._model.config.max_context) - len(self._begin)
    with program.progress("contamination", count + 1, "orders") as progress:
      return exchangeability.exchangeability(
        [self._tokens(row + _SEPARATOR) for row in rows],
        window,
        count,
        lambda texts: [
          found.logprob
          for found in self._read([(self._begin, text) for text in texts])
        ],
        self._seed,
        lambda: progress.advance(1),
      )

  def guesses(self, questions: Sequence[str]) -> masked_words.Guesses:
    """Of the questions that fit the window."""
    limit = self._model.config.max_context
    own = masked_words.mask(questions)
    pairs = [
      [self._guess(one) for one in asked]
      for asked in (own, masked_words.elsewhere(own, self._seed))
    ]
    fits = [
      max(len(context) + len(word) for context, word in both) <= limit
      for both in zip(*pairs, strict=True)
    ]
    first, second = (
      [one for one, is_short in zip(asked, fits, strict=True) if is_short]
      for asked in pairs
    )
    return masked_words.guesses(
      [found.is_greedy for found in self._read(first)],
      [found.is_greedy for found in self._read(second)],
    )

  def _guess(self, masked: masked_words.Masked) -> tuple[list[int], list[int]]:
    context = [*self._begin, *self._tokens(masked.prompt)]
    return context, self._tokens(f" {masked.word}")

  def _tokens(self, text: str) -> list[int]:
    return self._model.tokenizer(text, add_special_tokens=False)["input_ids"]

  def _read(
    self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
  ) -> list[Likelihood]:
    shards = meshes.batch_shards(self._mesh)
    rows = -(-_ROWS // shards) * shards
    params = self._model.params
    return log_likelihoods(self._network, params, pairs, rows, self._mesh)


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Both tests, again if they were made already."""
  program.unmark(workdir, "contamination")
  measure(config, workdir)


def main() -> None:
  program.main(run, __doc__, ("shuffles",))


if __name__ == "__main__":
  main()

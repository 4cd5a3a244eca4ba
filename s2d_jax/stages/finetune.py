"""Fine-tunes the same model to give the kept answers directly.

Writes checkpoints/ and metrics/finetune.jsonl, and with the objective "kl" what
the student replied as it learnt, replies/. A stage that was killed goes on from
the newest checkpoint, along the same loss curve.
"""

from __future__ import annotations

from collections.abc import Iterator
import itertools

from etils import epath
import jax
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.conversation import ChatTemplate
from s2d_jax.parallel import hosts
from s2d_jax.stages import own_replies, program, setup
from s2d_jax.training.data import Splits
from s2d_jax.training.examples import Taught, Tokenised, tokenise_all
from s2d_jax.training.flat_examples import FlatExamples
from s2d_jax.training.trainer import finetune

_TOGETHER = 1000  # records that are tokenised at once


@program.stage("finetune", on="all")
def run(config: ConfigDict, workdir: epath.Path) -> str:
  """Trains on distill/train, chooses by the likelihood of distill/valid."""
  setup.enable_compilation_cache()
  model = setup.model_to_train(config, workdir)
  chat = setup.chat_template(config, model)
  own = None
  if config.finetune.objective == "kl":
    own = own_replies.of_run(config, model, chat, workdir)
  splits = Splits(
    train=_examples(config, chat, workdir, "train") if own is None else {},
    valid=_examples(config, chat, workdir, "valid"),
  )
  mesh = setup.mesh_of(config, model.config)
  setup.announce_idle("finetune", mesh.size, jax.device_count(), config.mesh)
  summary = finetune(
    config.finetune,
    model,
    splits,
    workdir,
    mesh,
    config.seed,
    own,
  )
  learnt = ""
  if own and hosts.is_lead():  # who has written the metrics
    learnt = f"{own_replies.learnt(config, workdir)}; "
  chosen = ""
  if not config.finetune.accumulate:
    chosen = f"; finetune.accumulate: {summary.accumulate}"
  return learnt + (
    f"validation loss {summary.start_valid_loss:.3f} →"
    f" {summary.valid_loss:.3f} nats a token, best at step {summary.step} of"
    f" {summary.total_steps}{chosen}"
  )


def _examples(
  config: ConfigDict, chat: ChatTemplate, workdir: epath.Path, split: str
) -> FlatExamples:
  return FlatExamples(_tokenised(config, chat, workdir, split))


def _tokenised(
  config: ConfigDict, chat: ChatTemplate, workdir: epath.Path, split: str
) -> Iterator[tuple[str, Tokenised]]:
  """Yields the examples of a split with their names."""
  rows = records.read(workdir / "distill" / f"{split}.jsonl")
  while together := [*itertools.islice(rows, _TOGETHER)]:
    names = (f"{row['example_id']}/{row['variant']}" for row in together)
    taught = [
      Taught(row["prompt"], row["target"], row.get("thought", ""))
      for row in together
    ]
    tokens = tokenise_all(chat, taught, config.finetune.thought)
    yield from zip(names, tokens, strict=True)


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()

"""How far the fine-tune moved the model: what is read, and by which model.

Both models read the base model's own replies to everyday questions and a text,
which have nothing to do with the task, and for comparison the targets of the
validation split, which are what is taught.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from etils import epath
import jax
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.conversation import ChatTemplate
from s2d_jax.evaluation import movement
from s2d_jax.evaluation.movement import Divergence, Passage
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params
from s2d_jax.records import Record
from s2d_jax.stages import setup
from s2d_jax.stages.everyday import EVERYDAY, prompt_tokens
from s2d_jax.training.examples import tokenise

MOVEMENT = "movement"  # stands for a task in the records
TEXT, TARGETS = "text", "targets"
_MOST_TARGETS = 12  # they are but a scale for the others
_CONTEXT = 32  # tokens that are shown before one

Passages = Mapping[str, Sequence[Passage]]  # by what they are of


def passages(
  config: ConfigDict, workdir: epath.Path, text: str
) -> dict[str, list[Passage]]:
  """What both models read; what the run does not have is left out."""
  model = setup.base_without_weights(config)
  chat = setup.chat_template(config, model)
  tokens = model.tokenizer(text)["input_ids"]
  window = model.config.max_context
  keep = config.finetune.thought
  return {
    EVERYDAY: movement.spread(_replies(chat, workdir)),
    TEXT: movement.spread(movement.windows(tokens, window)),
    TARGETS: movement.spread(_targets(chat, workdir, keep), _MOST_TARGETS),
  }


def _replies(chat: ChatTemplate, workdir: epath.Path) -> list[Passage]:
  """Each token of a reply is predicted from what is before it."""
  found = []
  for row in records.read(workdir / "eval" / "retention-base.jsonl"):
    if row["task"] != EVERYDAY or not row.get("token_ids"):
      continue
    prompt, reply = prompt_tokens(chat, row["question"]), row["token_ids"]
    positions = range(len(prompt) - 1, len(prompt) + len(reply) - 1)
    found.append(Passage(row["example_id"], (*prompt, *reply), (*positions,)))
  return found


def _targets(
  chat: ChatTemplate, workdir: epath.Path, keep: int
) -> list[Passage]:
  path = workdir / "distill" / "valid.jsonl"
  found = []
  for row in records.read(path) if path.exists() else ():
    taught = row["prompt"], row["target"], row.get("thought", "")
    tokens, is_target = tokenise(chat, *taught, keep)
    positions = (is_target[1:].nonzero()[0]).tolist()
    name = f"{row['example_id']}/{row['variant']}"
    found.append(Passage(name, tuple(tokens.tolist()), tuple(positions)))
  return found


def log_probs(
  config: ConfigDict, model: Pretrained, given: Passages
) -> dict[str, list[jax.Array]]:
  """Those of the distilled model, which stay on the devices."""
  return {
    kind: movement.log_probs(
      *_network(config, model), part, _mesh(config, model)
    )
    for kind, part in given.items()
  }


def rows(
  config: ConfigDict,
  model: Pretrained,
  given: Passages,
  distilled: Mapping[str, Sequence[jax.Array]],
) -> Iterator[Record]:
  """Yields a record for each passage, read by the base model.

  Args:
    config: of the run.
    model: the base model.
    given: what is read.
    distilled: what `log_probs` made of it.
  """
  for kind, part in given.items():
    found = movement.divergences(
      *_network(config, model), part, distilled[kind], _mesh(config, model)
    )
    for passage, divergence in found:
      yield _record(model, kind, passage, divergence)


def _network(config: ConfigDict, model: Pretrained) -> tuple[Llama, Params]:
  setup.enable_compilation_cache()
  return setup.network(config, model), model.params


def _mesh(config: ConfigDict, model: Pretrained) -> jax.sharding.Mesh:
  return setup.sampling_mesh(config, model.config)


def _record(
  model: Pretrained, kind: str, passage: Passage, found: Divergence
) -> Record:
  """The mean of a passage, and where in it the models are furthest apart."""
  at = int(found.kl.argmax())
  place = passage.positions[at] + 1
  decode = model.tokenizer.decode
  before = passage.tokens[max(0, place - _CONTEXT) : place]
  return {
    "task": MOVEMENT,
    "of": kind,
    "example_id": passage.name,
    "positions": len(passage.positions),
    "kl": float(found.kl.mean()),
    "other_token": int((found.base != found.tuned).sum()),
    "furthest": {
      "kl": float(found.kl[at]),
      "before": decode(before, skip_special_tokens=True),
      "base": decode([int(found.base[at])]),
      "distilled": decode([int(found.tuned[at])]),
    },
  }

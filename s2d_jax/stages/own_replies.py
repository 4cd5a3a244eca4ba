"""The student's own replies, for a fine-tune that learns from a teacher.

They are drawn by the engine that draws everything else, on all devices of the
fine-tune. Its weights go there from device to device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from etils import epath
import jax
from ml_collections import ConfigDict
import numpy as np

from s2d_jax import records
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.checkpoints.train_state import with_shardings
from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.evaluation.controls import SYSTEM1
from s2d_jax.generation.engine import Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models import kernels, precision
from s2d_jax.models.llama import Llama
from s2d_jax.models.params import Params, abstract_params
from s2d_jax.parallel import memory, mesh as meshes
from s2d_jax.planning import decoding
from s2d_jax.records import Record
from s2d_jax.stages import batch_rows, setup
from s2d_jax.system2 import teacher
from s2d_jax.training.on_policy import Asked, OwnReplies, Question, Reply


def of_run(
  config: ConfigDict,
  model: Pretrained,
  chat: ChatTemplate,
  workdir: epath.Path,
) -> OwnReplies:
  """To the prompts of distill/train, as long as System 1's may be.

  Raises:
    UserError: a teacher's prompt does not fit the model's window.
  """
  template = setup.prompts_of(config, setup.task_of(config), SYSTEM1)[SYSTEM1]
  room, window = template.max_new_tokens, model.config.max_context
  asked = dict(_asked(config, chat, workdir))
  for name, prompts in asked.items():
    tokens = len(prompts.teacher)
    if tokens + room > window:
      raise UserError(
        f"the teacher's prompt of example {name} has {tokens} tokens, which"
        f" with the longest reply of {room} do not fit the model's window of"
        f" {window}; shorten prompts.teacher.user, or lower"
        " prompts.system1.max_new_tokens"
      )
  # Without stop strings: the teacher shows how a reply ends, too.
  sampling = Sampling(config.finetune.kl.temperature, max_new_tokens=room)
  return OwnReplies(asked, room, _Student(config, model, chat, sampling))


def learnt(config: ConfigDict, workdir: epath.Path) -> str:
  """How far the student was from its teacher, at first and at last."""
  path = workdir / "metrics" / "finetune.jsonl"
  lines = [line for line in records.read(path, growing=True) if "loss" in line]
  every = config.finetune.kl.every

  def mean(part: Sequence[Record]) -> float:
    tokens = [line["target_tokens"] for line in part]
    return float(np.average([line["loss"] for line in part], weights=tokens))

  return (
    f"KL(student || teacher) {mean(lines[:every]):.3f} →"
    f" {mean(lines[-every:]):.3f} nats a token of its replies"
  )


def _asked(
  config: ConfigDict, chat: ChatTemplate, workdir: epath.Path
) -> Iterator[tuple[str, Asked]]:
  """The prompts of both, by name."""
  text = setup.teacher_prompt(config)
  for record in records.read(workdir / "distill" / "train.jsonl"):
    own, told = record["prompt"], teacher.messages(text, record)
    prompts = (np.array(chat.encode(chat.prompt(m))) for m in (own, told))
    yield f"{record['example_id']}/{record['variant']}", Asked(*prompts)


class _Student:
  """Draws replies with the weights of a model in training."""

  def __init__(
    self,
    config: ConfigDict,
    model: Pretrained,
    chat: ChatTemplate,
    sampling: Sampling,
  ):
    self._config, self._sampling = config, sampling
    self._tokenizer, self._ends = model.tokenizer, chat.end_tokens
    platform = jax.default_backend()
    dtype = precision.choose(config.model.dtype, platform)
    # Not int8, whatever samples are drawn with: the replies are the student's.
    way = kernels.for_platform(dtype, platform)
    self._network = Llama(model.config, way)
    self._mesh = setup.mesh_of_student(config, model.config, way.loaded_as)
    boxed = abstract_params(model.config, way.loaded_as)
    shardings = meshes.param_shardings(boxed, self._mesh)
    self._wanted = with_shardings(boxed, shardings)
    self._narrowed = jax.jit(self._narrow)

  def __call__(
    self, weights: Params, questions: Sequence[Question]
  ) -> list[Reply]:
    placed = self._placed(weights)
    rows, slots = self._config.sampling.batch_rows, None
    if not rows:
      rows, slots = self._chosen_rows(placed, questions)
    engine = Engine(
      self._network,
      placed,
      self._tokenizer,
      self._ends,
      rows=rows,
      slots=slots,
      max_new_tokens=self._sampling.max_new_tokens,
      mesh=self._mesh,
    )
    for number, question in enumerate(questions):
      key = random_key(self._config.seed, "reply", *question.name)
      engine.submit(Request(question.prompt, key, self._sampling, number))
    replies: dict[int, Reply] = {}
    while engine.busy:
      for number, found in engine.step():
        replies[number] = Reply(found.text, found.tokens)
    return [replies[number] for number in range(len(questions))]

  def _chosen_rows(
    self, placed: Params, questions: Sequence[Question]
  ) -> batch_rows.Rows:
    """Beside what is trained: the copy that draws is counted with the batch."""
    devices = list(self._mesh.devices.flat)
    lengths = [len(question.prompt) for question in questions]
    new = self._sampling.max_new_tokens
    load = batch_rows.Load(lengths, max(lengths), new, 1, len(questions))
    own = decoding.local_bytes(placed)
    taken = max(0, memory.in_use(devices) - own)
    return batch_rows.choose(self._network, placed, self._mesh, load, taken)

  def _placed(self, weights: Params) -> Params:
    """As a sampler has them. Nothing passes through the host."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, self._wanted)
    return jax.device_put(self._narrowed(weights), shardings)

  def _narrow(self, weights: Params) -> Params:
    cast = lambda leaf, like: leaf.astype(like.dtype)
    return jax.tree.map(cast, weights, self._wanted)

"""A language model for notebooks: load, generate, think, score, save."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import functools
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from s2d_jax.checkpoints import hf, pretrained
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.generation.engine import Completion, Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models import kernels, precision
from s2d_jax.models.llama import Llama
from s2d_jax.parallel.mesh import make_mesh
from s2d_jax.system2 import methods
from s2d_jax.system2.program import Fields
from s2d_jax.system2.scheduler import (
  PROGRAMS_PER_ROW,
  Job,
  Result,
  Scheduler,
  end_tokens,
)
from s2d_jax.tasks.task import Task


class LanguageModel:
  """A model, its weights, its tokenizer and its chat template.

  lm = LanguageModel.load("smollm2-135m-instruct")
  lm.generate(["What is the capital of Peru?"], n=8, chat=True)

  Args:
    model: as `pretrained.load` gives it.
    dtype: of the products; see `load`.
    chat_template: with its options and date; default: the tokenizer's.
  """

  def __init__(
    self,
    model: Pretrained,
    dtype: str = "auto",
    chat_template: ChatTemplate | None = None,
  ):
    self.config = model.config
    self.tokenizer = model.tokenizer
    self.chat_template = chat_template or ChatTemplate(
      model.tokenizer, end_tokens=model.end_tokens
    )
    self.params = model.params
    self._generation_config = model.generation_config
    platform = jax.default_backend()
    dtype = precision.choose(dtype, platform)
    self._llama = Llama(model.config, kernels.for_platform(dtype, platform))

  @classmethod
  def load(
    cls,
    name: epath.PathLike,
    dtype: str = "auto",
    chat: Mapping[str, Any] | None = None,
  ) -> LanguageModel:
    """Loads a name, a Hugging Face folder, a .gguf file or a run's folder.

    The model of a run has the chat template as the run had it: its options and
    its date.

    Args:
      name: for instance "smollm2-135m-instruct", "org/model" on the Hub,
        "model.gguf", "runs/quickstart" or "runs/quickstart/checkpoints/20".
      dtype: of the products, "float32", "bfloat16" or "auto": what is fastest
        on the devices there are. The weights are float32.
      chat: options of the chat template, as {"enable_thinking": False}, in
        place of those of the run.
    """
    model = pretrained.load(name, make_mesh())
    settings = pretrained.settings_of(name)
    chat_template = ChatTemplate.from_settings(
      model.tokenizer, settings, model.end_tokens
    )
    return cls(model, dtype, chat_template.with_options(chat))

  def generate(
    self,
    prompts: str | Sequence[str],
    n: int = 1,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    max_new_tokens: int = 64,
    stop: str | Sequence[str] = (),
    seed: int = 0,
    chat: bool = False,
    batch_rows: int = 64,
  ) -> list[list[Completion]]:
    """Draws n completions of each prompt.

    Sample i of a prompt depends on the prompt, the seed and i alone.

    Args:
      prompts: texts, or one.
      n: completions a prompt.
      temperature: 0 is greedy; for the filters see `Sampling`.
      top_k: see `Sampling`.
      top_p: see `Sampling`.
      min_p: see `Sampling`.
      max_new_tokens: longest completion, in tokens.
      stop: strings that end a completion, or one.
      seed: another seed, other samples.
      chat: puts each prompt into the chat template as a user's message.
      batch_rows: completions decoded at once.

    Returns:
      For each prompt its n completions: text, tokens, logprob, finish_reason.
    """
    prompts = [prompts] if isinstance(prompts, str) else prompts
    sampling = Sampling(temperature, top_k, top_p, min_p, max_new_tokens, stop)
    rows = max(1, min(len(prompts) * n, batch_rows))
    engine = self._engine(rows, n, max_new_tokens)
    for index, prompt in enumerate(prompts):
      tokens = self._encode(prompt, chat)
      for sample in range(n):
        key = random_key(seed, prompt, sample)
        engine.submit(Request(tokens, key, sampling, (index, sample)))
    completions: list[list] = [[None] * n for _ in prompts]
    while engine.busy:
      for (index, sample), completion in engine.step():
        completions[index][sample] = completion
    return completions

  def think(
    self,
    inputs: Fields | Sequence[Fields],
    task: Task,
    method: str = "s2a",
    n: int = 1,
    *,
    temperature: float = 0.7,
    seed: int = 0,
    batch_rows: int = 64,
  ) -> list[list[Result]]:
    """Has a System 2 method think about each input, n times.

    Args:
      inputs: values of the placeholders of the prompts: `task.fields(example,
        variant)`, or a question of your own as {"text": "…"}; or one of them.
      task: whose prompts are used.
      method: how to think: "s2a", "rar2", "cot" …; "system1" answers directly.
      n: samples an input.
      temperature: of every reply; 0 is greedy.
      seed: another seed, other samples.
      batch_rows: replies decoded at once.

    Returns:
      For each input its n samples: the steps with prompt and completion, the
      replies, and the tokens of all steps.

    Raises:
      UserError: no such method, or the task has no prompt for it.
    """
    inputs = [inputs] if isinstance(inputs, Mapping) else inputs
    system2 = methods.by_name(method)
    prompts = system2.prompts_for(task.name, task.prompts)
    # A later prompt contains an earlier reply, so samples do not share it.
    engine = self._engine(
      rows=max(1, min(len(inputs) * n, batch_rows)),
      samples=n if len(prompts) == 1 else 1,
      max_new_tokens=max(p.max_new_tokens for p in prompts.values()),
      end_tokens=end_tokens(self.chat_template, prompts),
    )
    scheduler = Scheduler(
      engine,
      self.chat_template,
      system2,
      prompts,
      seed=seed,
      in_flight=PROGRAMS_PER_ROW * batch_rows,
    )
    sampling = Sampling(temperature)
    jobs = collections.deque(
      Job((index, sample), fields, sampling)
      for index, fields in enumerate(inputs)
      for sample in range(n)
    )
    results: list[list] = [[None] * n for _ in inputs]
    for result in scheduler.run(jobs):
      index, sample = result.job.name
      results[index][sample] = result
    return results

  def logits(self, token_ids: Int[np.ndarray, "B T"]) -> Float[Array, "B T V"]:
    """Scores of every next token, float32, for sequences without padding."""
    ids = np.atleast_2d(np.asarray(token_ids))
    outside = ids[(ids < 0) | (ids >= self.config.vocab_size)]
    if outside.size:
      raise UserError(
        f"token id {outside[0]} is not in the model's vocabulary of"
        f" {self.config.vocab_size}"
      )
    tokens = jnp.asarray(ids, jnp.int32)
    if tokens.shape[1] > self.config.max_context:
      raise UserError(
        f"{tokens.shape[1]} tokens do not fit the model's window of"
        f" {self.config.max_context}"
      )
    return _logits(self._llama, self.params, tokens)

  def save_pretrained(
    self, folder: epath.PathLike, dtype: str = "float32"
  ) -> None:
    """Writes a Hugging Face folder that transformers loads."""
    hf.write(
      folder,
      self.config,
      self.params,
      self.chat_template.as_tokenizer(),
      dtype,
      generation_config=self._generation_config,
      end_tokens=self.chat_template.end_tokens,
    )

  def _engine(
    self,
    rows: int,
    samples: int,
    max_new_tokens: int,
    end_tokens: Sequence[int] = (),
  ) -> Engine:
    return Engine(
      self._llama,
      self.params,
      self.tokenizer,
      end_tokens or self.chat_template.end_tokens,
      rows=rows,
      samples=samples,
      max_new_tokens=max_new_tokens,
    )

  def _encode(self, prompt: str, chat: bool) -> tuple[int, ...]:
    if not chat:
      return tuple(self.tokenizer(prompt)["input_ids"])
    message = {"role": "user", "content": prompt}
    text = self.chat_template.prompt([message])
    return self.chat_template.encode(text)


@functools.partial(jax.jit, static_argnums=0)
def _logits(llama: Llama, params, tokens):
  steps = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  variables = {"params": params}
  hidden, _ = llama.apply(variables, tokens, steps)
  return llama.apply(variables, hidden, method=Llama.logits)

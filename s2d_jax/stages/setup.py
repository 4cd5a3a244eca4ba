"""From a config to the things a stage works with."""

from __future__ import annotations

import functools
import os

from etils import epath
import jax
from ml_collections import ConfigDict

from s2d_jax.checkpoints import pretrained
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.errors import UserError
from s2d_jax.generation import chat
from s2d_jax.generation.engine import Engine
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models.llama import REMAT_POLICIES, Llama
from s2d_jax.parallel import mesh as meshes
from s2d_jax.system2 import program
from s2d_jax.system2.methods import METHODS
from s2d_jax.system2.program import Method, Prompts
from s2d_jax.system2.scheduler import Scheduler
from s2d_jax.tasks.registry import make_task
from s2d_jax.tasks.task import Task


def enable_compilation_cache() -> None:
  """Keeps compiled programs on disk, so that a second start is quick."""
  if jax.config.jax_compilation_cache_dir is None:
    home = os.environ.get("S2D_CACHE", os.path.expanduser("~/.cache/s2d_jax"))
    jax.config.update("jax_compilation_cache_dir", os.path.join(home, "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def check(config: ConfigDict) -> None:
  """Raises UserError if a name or a number in the config cannot be used."""
  prompts_of(config, task_of(config))
  method_of(config)
  sampling_of(config)
  finetune = config.finetune
  at_least = {
    "sampling.n": (config.sampling.n, 1),
    "sampling.batch_rows": (config.sampling.batch_rows, 1),
    "evaluation.n": (config.evaluation.n, 1),
    "curation.min_margin": (config.curation.min_margin, 0),
    "curation.min_agreement": (config.curation.min_agreement, 0),
    "finetune.learning_rate": (finetune.learning_rate, 0),
    "finetune.warmup_steps": (finetune.warmup_steps, 0),
  }
  for name in (
    "epochs", "batch_rows", "row_length", "accumulate", "eval_every", "keep",
  ):  # fmt: skip
    at_least[f"finetune.{name}"] = finetune[name], 1
  for name, (value, least) in at_least.items():
    if not value >= least:  # not a number is not enough, either
      raise UserError(f"{name}={value} must be {least} or more")
  dtypes = ("float32", "bfloat16")
  for name, value, known in (
    ("model.dtype", config.model.dtype, dtypes),
    ("finetune.dtype", finetune.dtype, dtypes),
    ("finetune.remat", finetune.remat, tuple(REMAT_POLICIES)),
  ):
    if value not in known:
      raise UserError(f"{name}={value!r} must be one of {', '.join(known)}")


def task_of(config: ConfigDict) -> Task:
  options = {"seed": config.seed} | config.task.to_dict()
  return make_task(options.pop("name"), options)


def method_of(config: ConfigDict) -> Method:
  if config.method not in METHODS:
    raise UserError(
      f"method={config.method!r} is unknown; there are"
      f" {', '.join(sorted(METHODS))}"
    )
  return METHODS[config.method]


def prompts_of(config: ConfigDict, task: Task) -> Prompts:
  return program.override(task.prompts, config.prompts.to_dict())


@functools.lru_cache(maxsize=1)
def base_model(name: str) -> Pretrained:
  """The model that thinks and is then taught; its weights on the device.

  One copy is shared by the stages of a process. Who overwrites it in place
  calls `base_model.cache_clear()` first.
  """
  return pretrained.load(name).on_device(meshes.make_mesh())


def scheduler(
  config: ConfigDict,
  model: Pretrained,
  prompts: Prompts,
  method: Method,
  sampling: Sampling,
  n: int,
) -> Scheduler:
  """Runs `method` on a batch of `sampling.batch_rows`, `n` passes a prompt."""
  enable_compilation_cache()
  rows = min(n, config.sampling.batch_rows)
  engine = Engine(
    Llama(model.config, config.model.dtype),
    model.params,
    model.tokenizer,
    chat.end_tokens(model.tokenizer),
    slots=config.sampling.batch_rows // rows,
    rows=rows,
    max_new_tokens=max(p.max_new_tokens for p in prompts.values()),
  )
  return Scheduler(
    engine,
    model.tokenizer,
    method,
    prompts,
    sampling,
    seed=config.seed,
    in_flight=2 * config.sampling.batch_rows,
  )


def sampling_of(config: ConfigDict) -> Sampling:
  names = ("temperature", "top_k", "top_p", "min_p")
  return Sampling(**{name: config.sampling[name] for name in names})


def examples_path(workdir: epath.Path, split: str) -> epath.Path:
  return workdir / "examples" / f"{split}.jsonl"

"""Makes models, tasks and schedulers from a config."""

from __future__ import annotations

from collections.abc import Mapping
import ctypes
import dataclasses
import functools
import os
import sys
from typing import get_args

from etils import epath
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from s2d_jax.checkpoints import pretrained
from s2d_jax.checkpoints.pretrained import Pretrained
from s2d_jax.conversation import ChatTemplate, read_date
from s2d_jax.curation.curate import Filter, Select, Target
from s2d_jax.curation.long_rows import TooLong
from s2d_jax.curation.vote import Thresholds
from s2d_jax.errors import UserError
from s2d_jax.evaluation.controls import ALOUD, SHOTS, SYSTEM1
from s2d_jax.generation.engine import Engine
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models import kernels, placement, precision
from s2d_jax.models.config import ModelConfig
from s2d_jax.models.llama import REMAT_POLICIES, Llama
from s2d_jax.models.lora import PROJECTIONS
from s2d_jax.parallel import hosts
from s2d_jax.stages import batch_rows
from s2d_jax.stages.batch_rows import Inputs
from s2d_jax.system2 import methods, program, teacher
from s2d_jax.system2.program import Prompts, Template
from s2d_jax.system2.scheduler import (
  PROGRAMS_PER_ROW,
  Scheduler,
  end_tokens,
)
from s2d_jax.tasks.registry import make_task
from s2d_jax.tasks.task import Task
from s2d_jax.training import step as steps
from s2d_jax.training.examples import WHOLE, tokenise
from s2d_jax.training.internalise import DIRECT
from s2d_jax.training.loss import Objective
from s2d_jax.training.optimizer import OPTIMIZERS


def enable_compilation_cache() -> None:
  """Keeps compiled programs on disk, so that a second start is quick."""
  if jax.config.jax_compilation_cache_dir is None:
    home = os.environ.get("S2D_CACHE", os.path.expanduser("~/.cache/s2d_jax"))
    jax.config.update("jax_compilation_cache_dir", os.path.join(home, "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def check(config: ConfigDict) -> None:
  """Raises UserError if a name or a number in the config cannot be used."""
  if config.method == ALOUD:
    raise UserError(
      f"method={ALOUD!r} is how a student is asked that was taught to think"
      " first, and no System 2; choose another one, such as 'cot'"
    )
  task = task_of(config)
  prompts_of(config, task)
  retention_tasks(config)
  sampling_of(config)
  if config.model.date:
    read_date(config.model.date)
  curation = config.curation
  taught = [v for v in task.variants if v not in task.perturbations]
  if set(curation.variants) - set(taught):
    raise UserError(
      f"curation.variants={tuple(curation.variants)!r} must be of"
      f" {', '.join(taught)}"
    )
  finetune = config.finetune
  at_least = {
    "sampling.n": (config.sampling.n, 1),
    "sampling.batch_rows": (config.sampling.batch_rows, 0),
    "evaluation.n": (config.evaluation.n, 1),
    "sampling.confidence": (config.sampling.confidence, 0),
    "sampling.audit": (config.sampling.audit, 0),
    "curation.min_votes": (curation.min_votes, 0),
    "curation.min_margin": (curation.min_margin, 0),
    "curation.min_agreement": (curation.min_agreement, 0),
    "gate.budget": (config.gate.budget, 0),
    "gate.agreement": (config.gate.agreement, 0),
    "retention.n": (config.retention.n, 0),
    "retention.questions": (config.retention.questions, 0),
    "finetune.accumulate": (finetune.accumulate, 0),
    "finetune.learning_rate": (finetune.learning_rate, 0),
    "finetune.warmup_steps": (finetune.warmup_steps, 0),
    "finetune.thought": (finetune.thought, WHOLE),
    "finetune.lora.rank": (finetune.lora.rank, 0),
    "finetune.kl.every": (finetune.kl.every, 1),
    "finetune.kl.temperature": (finetune.kl.temperature, 0),
    "rounds.count": (config.rounds.count, 1),
    "rounds.number": (config.rounds.number, 0),
    "internalise.stages": (config.internalise.stages, 0),
  }
  for axis, size in config.mesh.items():
    at_least[f"mesh.{axis}"] = size, 0
  for axis, size in config.sampling.mesh.items():
    at_least[f"sampling.mesh.{axis}"] = size, 0
  for name in ("epochs", "batch_rows", "row_length", "eval_every", "keep"):
    at_least[f"finetune.{name}"] = finetune[name], 1
  for name, (value, least) in at_least.items():
    if not value >= least:  # not a number is not enough, either
      raise UserError(f"{name}={value} must be {least} or more")
  for name, value, known in (
    ("curation.select", curation.select, get_args(Select)),
    ("curation.target", curation.target, get_args(Target)),
    ("too_long", config.too_long, get_args(TooLong)),
    ("model.dtype", config.model.dtype, precision.SETTINGS),
    ("sampling.scope", config.sampling.scope, ("host", "global")),
    ("sampling.weights", config.sampling.weights, ("float", "int8")),
    ("finetune.dtype", finetune.dtype, precision.SETTINGS),
    ("finetune.objective", finetune.objective, get_args(Objective)),
    ("finetune.kl.teacher", finetune.kl.teacher, tuple(teacher.PROMPTS)),
    ("finetune.optimizer", finetune.optimizer, tuple(OPTIMIZERS)),
    ("finetune.remat", finetune.remat, ("auto", *REMAT_POLICIES)),
    ("rounds.thinker", config.rounds.thinker, ("distilled", "base")),
    ("rounds.start", config.rounds.start, ("base", "last")),
  ):
    if value not in known:
      raise UserError(f"{name}={value!r} must be one of {', '.join(known)}")
  if config.gate.agreement > 1:
    raise UserError(
      f"gate.agreement={config.gate.agreement} must be 1 or less: it is a"
      " probability"
    )
  if 0 < config.gate.budget < 1:
    raise UserError(
      f"gate.budget={config.gate.budget} must be 1 or more, as no answer takes"
      " less than a token, or 0 for the default"
    )
  if config.gate.budget and config.gate.agreement:
    raise UserError(
      f"gate.budget={config.gate.budget} and gate.agreement="
      f"{config.gate.agreement} are two ways to say where to think; set one of"
      " them to 0"
    )
  targets = tuple(finetune.lora.targets)
  if not targets or set(targets) - set(PROJECTIONS):
    raise UserError(
      f"finetune.lora.targets={targets!r} must be some of"
      f" {', '.join(PROJECTIONS)}"
    )
  _check_thoughts(config)
  teacher_prompt(config)
  _check_rounds(config)
  _check_internalise(config)


def _check_thoughts(config: ConfigDict) -> None:
  """Raises UserError where there are none to be taught."""
  if config.curation.target != "shortest_thought":
    if config.finetune.thought != WHOLE:
      raise UserError(
        f"finetune.thought={config.finetune.thought}, but thoughts are taught"
        " only with curation.target='shortest_thought'"
      )
    return
  if config.method in (SYSTEM1, SHOTS):
    raise UserError(
      f"method={config.method!r} has no thoughts to be taught; choose another"
      " one, or another curation.target than 'shortest_thought'"
    )
  if config.curation.select == "label":
    raise UserError(
      "curation.select='label' has no thoughts to be taught; choose another"
      " way to select answers, or another curation.target than"
      " 'shortest_thought'"
    )
  if config.finetune.objective == "kl" and config.finetune.thought:
    raise UserError(
      f"finetune.thought={config.finetune.thought}, but finetune.objective='kl'"
      " shows thoughts to the teacher alone; set finetune.thought=0"
    )


def thinks_aloud(config: ConfigDict) -> bool:
  """Whether the student is taught to think before it answers."""
  is_taught = config.curation.target == "shortest_thought"
  return is_taught and config.finetune.thought != 0


def _check_rounds(config: ConfigDict) -> None:
  """Raises UserError for what cannot be done again, round after round."""
  rounds, select = config.rounds, config.curation.select
  if rounds.count == 1 and not rounds.number:
    return
  if select != "vote":
    raise UserError(
      f"curation.select={select!r} cannot be in rounds, which go by votes; set"
      " curation.select='vote' or rounds.count=1"
    )
  if rounds.start == "last" and config.finetune.lora.rank:
    raise UserError(
      "rounds.start='last' cannot train adapters, which stand beside the base"
      " model's weights; set finetune.lora.rank=0 or rounds.start='base'"
    )


def _check_internalise(config: ConfigDict) -> None:
  """Raises UserError for what cannot be internalised stage by stage."""
  stages, stage = config.internalise.stages, config.internalise.stage
  known = ["", *map(str, range(stages + 1)), DIRECT] if stages else [""]
  if stage not in known:
    raise UserError(
      f"internalise.stage={stage!r} must be one of {', '.join(known[1:])}, or"
      f" empty, with internalise.stages={stages}"
    )
  if not stages:
    return
  if config.rounds.count > 1 or config.rounds.number:
    raise UserError(
      f"internalise.stages={stages} cannot be in rounds; set rounds.count=1 or"
      " internalise.stages=0"
    )
  if config.curation.target != "shortest_thought":
    raise UserError(
      f"internalise.stages={stages} needs thoughts, and curation.target="
      f"{config.curation.target!r} teaches none; set curation.target="
      "'shortest_thought'"
    )
  if config.curation.select == "usc":
    raise UserError(
      "curation.select='usc' leaves no votes to choose among stages by; set"
      " curation.select='vote' or internalise.stages=0"
    )
  if config.finetune.lora.rank:
    raise UserError(
      f"internalise.stages={stages} cannot train adapters, as each stage goes"
      " on from the weights of the one before; set finetune.lora.rank=0"
    )
  if not stage and config.finetune.thought != WHOLE:
    raise UserError(
      f"finetune.thought={config.finetune.thought} is what each of the"
      f" internalise.stages={stages} sets; leave it at {WHOLE}"
    )


def task_of(config: ConfigDict) -> Task:
  options = {"seed": config.seed} | config.task.to_dict()
  return make_task(options.pop("name"), options)


def retention_tasks(config: ConfigDict) -> dict[str, Task]:
  """Tasks that are asked before and after the fine-tune, by their label."""
  found = {}
  for label, options in config.retention.tasks.items():
    if not isinstance(options, ConfigDict):
      raise UserError(
        f"retention.tasks.{label}={options!r} must be the name and the options"
        ' of a task, as {"name": "sycophancy"}'
      )
    known = {"seed": config.seed, "name": ""} | options.to_dict()
    try:
      found[label] = make_task(known.pop("name"), known)
    except UserError as error:
      raise UserError(f"retention.tasks.{label}: {error}") from None
  return found


def prompts_of(config: ConfigDict, task: Task, method: str = "") -> Prompts:
  """The templates of a method, of the run's own by default.

  The config may change any template of the run's method, System 1 with and
  without worked examples, or the choice among replies.
  """
  method = method or config.method
  names = dict.fromkeys((SYSTEM1, SHOTS, "usc", config.method, method))
  # Where the task has no worked examples of direct answers, they are none.
  own = {SHOTS: task.prompts.get(SYSTEM1), **task.prompts}
  known = {}
  for name in names:
    known |= methods.by_name(name).prompts_for(task.name, own)
  changes = config.prompts.to_dict()
  changes.pop(TEACHER, None)  # which asks nothing: see `teacher_prompt`
  for name in (SYSTEM1, SHOTS):
    if "chat" in changes.get(name, ()):
      raise UserError(
        f"prompts.{name}.chat cannot be: System 1 is asked as the student is"
        " taught; set config.model.chat"
      )
  changed = program.override(known, changes)
  # What is changed of System 1 is changed behind worked examples, too.
  inherited = dict(changes.get(SYSTEM1, {}))
  if SHOTS in task.prompts:
    inherited.pop("shots", None)
  inherited |= changes.get(SHOTS, {})
  changed |= program.override({SHOTS: known[SHOTS]}, {SHOTS: inherited})
  if method == ALOUD:
    changed[SYSTEM1] = _aloud(config, task, changed[SYSTEM1])
  methods.by_name(method).check_counts(changed)
  return {name: changed[name] for name in methods.by_name(method).prompts}


def _aloud(config: ConfigDict, task: Task, direct: Template) -> Template:
  """With space for a thought: no longer than it is taught, or was thought."""
  own = prompts_of(config, task).values()
  spent = sum(template.n * template.max_new_tokens for template in own)
  most = min(config.finetune.row_length, spent + direct.max_new_tokens)
  return dataclasses.replace(direct, max_new_tokens=most, stop=())


def teacher_prompt(config: ConfigDict) -> str:
  """What a teacher reads in place of the student's question, with placeholders.

  Raises:
    UserError: the config has one that cannot be read, or that nobody reads.
  """
  changes = config.prompts.to_dict().get(TEACHER, {})
  if changes and config.finetune.objective != "kl":
    raise UserError(
      f"prompts.{TEACHER} has no reader: there is a teacher with"
      " finetune.objective='kl' only"
    )
  return teacher.prompt(changes, config.finetune.kl.teacher)


def why_no_shots(config: ConfigDict, task: Task) -> str:
  """Why System 1 is not asked behind worked examples; empty if it is.

  It is to have what System 2 has: where System 2 has no worked examples, or
  System 1 has those of the control, there is nothing to control for.
  """
  if config.method == SHOTS:
    return ""
  if not config.evaluation.controls:
    return "evaluation.controls is off"
  if not has_shots(config, task) and SHOTS not in config.prompts:
    return "System 2 has no worked examples"
  direct = prompts_of(config, task, SYSTEM1)[SYSTEM1]
  if prompts_of(config, task, SHOTS)[SHOTS] == direct:
    return (
      f"the task {task.name} has no worked examples of direct answers but those"
      f" of System 1; prompts.{SHOTS}.shots can give some"
    )
  return ""


def has_shots(config: ConfigDict, task: Task) -> bool:
  """Whether System 2 has worked examples, beside any of System 1."""
  own = prompts_of(config, task)
  return any(own[name].shots for name in own if name != SYSTEM1)


def has_shots_control(config: ConfigDict, task: Task) -> bool:
  """Whether System 1 is evaluated behind worked examples."""
  return not why_no_shots(config, task)


def filter_of(config: ConfigDict) -> Filter:
  """Which answers curation keeps."""
  settings = config.curation
  return Filter(
    settings.select,
    Thresholds(settings.min_votes, settings.min_margin),
    settings.min_agreement,
    settings.nested,
    config.sampling.n,
    settings.loose_votes,
  )


TEACHER = "teacher"  # stands for its prompt in the settings
_WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}

# The model that is on the devices, by its name, layout and number format.
_loaded: dict[tuple[str, Mesh, str], Pretrained] = {}


@functools.cache
def _without_weights(name: str) -> Pretrained:
  return pretrained.load_without_weights(name)


def base_without_weights(config: ConfigDict) -> Pretrained:
  """The tokenizer and the sizes of the model that is distilled."""
  return _without_weights(config.model.name)


def base_model(config: ConfigDict) -> Pretrained:
  """The model that is distilled, laid out to sample from it."""
  return _sampler(config, config.model.name)


def distilled_model(config: ConfigDict, workdir: epath.Path) -> Pretrained:
  """The run's best checkpoint, laid out to sample from it."""
  return _sampler(config, str(workdir))


def round_before(config: ConfigDict, workdir: epath.Path) -> epath.Path | None:
  """The workdir of the round before this one, if there is one."""
  number = config.rounds.number
  return workdir.parent / str(number - 1) if number > 1 else None


def stage_before(config: ConfigDict, workdir: epath.Path) -> epath.Path | None:
  """The workdir of the stage that this one goes on from, if there is one."""
  stage = config.internalise.stage
  if not stage.isdecimal() or stage == "0":
    return None
  return workdir.parent / str(int(stage) - 1)


def thinker(config: ConfigDict, workdir: epath.Path) -> Pretrained:
  """The model whose samples are learnt from, laid out to sample from it."""
  return _sampler(config, thinker_name(config, workdir))


def thinker_name(config: ConfigDict, workdir: epath.Path) -> str:
  """The base model, or the workdir of the round before."""
  before = round_before(config, workdir)
  if before is None or config.rounds.thinker == "base":
    return config.model.name
  return str(before)


def model_to_train(config: ConfigDict, workdir: epath.Path) -> Pretrained:
  """The model that the fine-tune overwrites, laid out for it.

  It is the base model, or that of the round (rounds.start) or of the stage
  before. The copy that was sampled from is taken over if it lies alike.
  """
  before = stage_before(config, workdir)
  if config.rounds.start == "last":
    before = round_before(config, workdir)
  name = config.model.name if before is None else str(before)
  mesh = mesh_of(config, pretrained.read_config(name))
  model = _load(name, mesh, steps.given_dtype(config.finetune, mesh))
  # Programs of sampling would hold half a GB. Those that are needed again are
  # on disk.
  jax.clear_caches()
  release()
  return model


def release() -> None:
  """Frees the model that is on the devices.

  The host's memory goes back to the system: glibc would keep that of arrays as
  small as a layer's, and all that comes next is larger. A run of the quickstart
  would hold a GB of it through its fine-tune.
  """
  _loaded.clear()
  if sys.platform == "linux":
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc's alone
      trim(0)


def _sampler(config: ConfigDict, name: str) -> Pretrained:
  mesh = sampling_mesh(config, pretrained.read_config(name))
  return _load(name, mesh, _sampling_dtype(config))


def _sampling_dtype(config: ConfigDict) -> str:
  """Of the weights."""
  return _kernels(config).loaded_as


def _kernels(config: ConfigDict) -> kernels.Float:
  """How the sampler keeps and multiplies kernels."""
  platform = jax.default_backend()
  dtype = precision.choose(config.model.dtype, platform)
  return kernels.for_platform(dtype, platform, config.sampling.weights)


def _load(name: str, mesh: Mesh, dtype: str) -> Pretrained:
  """One copy of one model at a time; the stages of a process share it."""
  key = name, mesh, dtype
  if key not in _loaded:
    release()
    _loaded[key] = pretrained.load(name, mesh, dtype)
  return _loaded[key]


def network(config: ConfigDict, model: Pretrained) -> Llama:
  """As the sampler computes it."""
  return Llama(model.config, _kernels(config))


def chat_template(config: ConfigDict, model: Pretrained) -> ChatTemplate:
  """The model's, with the options and the date of the run."""
  return ChatTemplate.from_settings(
    model.tokenizer, config.model.to_dict(), model.end_tokens
  )


def check_chats(config: ConfigDict, model: Pretrained) -> None:
  """Raises UserError if the run's prompts or its replies cannot be rendered.

  Args:
    config: of the run.
    model: with or without its weights.
  """
  chat, task = chat_template(config, model), task_of(config)
  used = ["system1", config.method]
  if has_shots_control(config, task):
    used.append(SHOTS)
  if config.curation.select == "usc":
    used.append("usc")
  for method in used:
    prompts = program.for_chat(prompts_of(config, task, method), chat)
    for template in prompts.values():
      if template.system and not chat.has_system_role:
        _say_once(
          "the chat template has no system role: a system message stands in"
          " front of the user's text"
        )
      values = dict.fromkeys(template.placeholders, "text")
      asked = chat.with_options(template.chat)
      tokenise(asked, template.messages(**values), "reply")


def scheduler(
  config: ConfigDict,
  model: Pretrained,
  task: Task,
  method: str,
  n: int,
  inputs: Inputs | None,
) -> Scheduler:
  """Runs `method` on a batch of `sampling.batch_rows`, `n` samples a prompt."""
  asked = {method: (task, method)}
  about = None if inputs is None else {method: inputs}
  return schedulers(config, model, asked, n, about)[method]


def schedulers(
  config: ConfigDict,
  model: Pretrained,
  asked: Mapping[str, tuple[Task, str]],
  n: int,
  inputs: Mapping[str, Inputs] | None,
  share_prefixes: bool = True,
) -> dict[str, Scheduler]:
  """Run methods on one batch, together or one after another, by a name each.

  Args:
    config: of the run.
    model: that is asked.
    asked: task and method of each.
    n: samples a prompt.
    inputs: what each is asked about, by which the rows of the batch are chosen
      where the config leaves them open; nobody looks at them otherwise. None
      where they are not known beforehand.
    share_prefixes: see `Scheduler`.
  """
  enable_compilation_cache()
  prompts = {name: prompts_of(config, *one) for name, one in asked.items()}
  chat = chat_template(config, model)
  ends = {end for own in prompts.values() for end in end_tokens(chat, own)}
  mesh = sampling_mesh(config, model.config)
  if config.sampling.scope == "host":
    sizes = config.sampling.mesh
    announce_idle("sampling", mesh.size, jax.local_device_count(), sizes)
  samples = min(_samples(own, n) for own in prompts.values())
  rows, slots = config.sampling.batch_rows, None
  if not rows and inputs is None:
    rows = batch_rows.FIXED
  elif not rows:
    methods_of = {
      name: (methods.by_name(method), prompts[name])
      for name, (_, method) in asked.items()
    }
    load = batch_rows.load_of(chat, methods_of, inputs, samples, share_prefixes)
    rows, slots = batch_rows.choose(
      network(config, model), model.params, mesh, load
    )
  engine = Engine(
    network(config, model),
    model.params,
    model.tokenizer,
    sorted(ends),
    rows=rows,
    samples=samples,
    slots=slots,
    max_new_tokens=max(
      template.max_new_tokens
      for own in prompts.values()
      for template in own.values()
    ),
    mesh=mesh,
  )
  return {
    name: Scheduler(
      engine,
      chat,
      methods.by_name(method),
      prompts[name],
      seed=config.seed,
      in_flight=PROGRAMS_PER_ROW * rows,
      drop_long=config.too_long == "drop",
      share_prefixes=share_prefixes,
    )
    for name, (_, method) in asked.items()
  }


def _samples(prompts: Prompts, n: int) -> int:
  """How many replies share a prompt, of n samples.

  The samples of an input share the first prompt. A later prompt contains an
  earlier reply, so only the replies to that very prompt share it.
  """
  replies = max(prompt.n for prompt in prompts.values())
  return n * replies if len(prompts) == 1 else replies


def sampling_of(config: ConfigDict) -> Sampling:
  names = ("temperature", "top_k", "top_p", "min_p")
  return Sampling(**{name: config.sampling[name] for name in names})


def sampling_mesh(config: ConfigDict, model: ModelConfig) -> Mesh:
  """The devices that are sampled on: those of this host, or of all."""
  hosts.check_joined()
  is_shared = config.sampling.scope == "host"
  return placement.sampling_mesh(
    model,
    config.sampling.mesh.to_dict(),
    _WEIGHT_BYTES[_sampling_dtype(config)],
    jax.local_devices() if is_shared else jax.devices(),
  )


def mesh_of_student(config: ConfigDict, model: ModelConfig, dtype: str) -> Mesh:
  """The devices of the fine-tune, as a sampler with these weights has them."""
  slices = {getattr(one, "slice_index", None) or 0 for one in jax.devices()}
  shape = {"dcn": len(slices) if len(slices) > 1 else 0, "data": 0}
  return placement.sampling_mesh(
    model,
    shape | {"tensor": config.sampling.mesh.tensor},
    _WEIGHT_BYTES[dtype],
    jax.devices(),
  )


def mesh_of(config: ConfigDict, model: ModelConfig) -> Mesh:
  """The devices that the fine-tune is spread over: of all hosts."""
  hosts.check_joined()
  finetune = config.finetune
  return placement.training_mesh(
    model,
    config.mesh.to_dict(),
    # Where micro-batches are still to be chosen, they are for this very mesh.
    finetune.batch_rows // (finetune.accumulate or 1),
    finetune.row_length,
    jax.devices(),
  )


def announce_idle(
  stage: str, used: int, count: int, sizes: Mapping[str, int]
) -> None:
  """Says, once, that a stage leaves devices idle, if it does.

  Args:
    stage: that does.
    used: devices of its mesh.
    count: devices there are.
    sizes: of its mesh, in the config; 0 is chosen.
  """
  if used < count:
    reason = "since neither the model nor the rows divide over more"
    if any(sizes.values()):
      reason = "as the sizes of its mesh are set"
    _say_once(f"{stage}: on {used} of {count} devices, {reason}")


@functools.cache
def _say_once(line: str) -> None:
  print(line, flush=True)


def check_devices(config: ConfigDict) -> None:
  """Raises UserError if the model cannot be spread over these devices."""
  model = pretrained.read_config(config.model.name)
  sampling_mesh(config, model)
  mesh_of(config, model)


def examples_path(workdir: epath.Path, split: str) -> epath.Path:
  return workdir / "examples" / f"{split}.jsonl"

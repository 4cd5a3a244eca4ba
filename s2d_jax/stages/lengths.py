"""Measures prompts before they are asked, and targets before they are learnt.

A prompt that depends on no reply is known to be too long before anything is
sampled. Later ones are found on the way, by the scheduler.

All prompts of a million examples take minutes, and a run that is started again
asks the same ones. So what was found is kept, with a digest of all that it
depends on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import itertools
import json
from typing import NamedTuple

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.checkpoints import fingerprint
from s2d_jax.conversation import ChatTemplate
from s2d_jax.curation import long_rows
from s2d_jax.curation.long_rows import LongRow
from s2d_jax.evaluation.controls import SHOTS
from s2d_jax.parallel import hosts
from s2d_jax.progress import Progress
from s2d_jax.records import Record
from s2d_jax.stages import made_from, setup
from s2d_jax.system2 import methods
from s2d_jax.system2.program import for_chat
from s2d_jax.tasks.example_files import ExampleFiles
from s2d_jax.tasks.task import Example, Task, asked
from s2d_jax.training.examples import reply_of

_FILE = "metrics/lengths.json"
_SPLITS = ("train", "valid", "test")
_TOGETHER = 1000  # examples whose texts are tokenised at once
_MANY = 10_000  # inputs that take a while


class _Limit(NamedTuple):
  """What a prompt has to fit, with so many tokens behind it."""

  most: int
  reply: int
  name: str


class _Prompt(NamedTuple):
  """A prompt of an input; `name` is what a sentence calls it."""

  example_id: str
  variant: str
  name: str
  text: str
  limits: Sequence[_Limit]

  @property
  def fits(self) -> int:
    """The most tokens that it may have."""
    return min(limit.most - limit.reply for limit in self.limits)


def check_prompts(
  config: ConfigDict, task: Task, splits: Mapping[str, Sequence[Example]]
) -> dict[str, list[LongRow]]:
  """The inputs with a prompt that is too long, by split.

  Prompts of System 1 and the first ones of the run's method must fit the
  model's window with the longest reply, in the test split also those of System
  1 behind worked examples. That of System 1 in the train split must leave space
  for a target in a row of the fine-tune.

  Raises:
    UserError: the config does not let them be left out, or they are too many.
  """
  found = {}
  for split, examples in splits.items():
    found[split] = _long_rows(config, task, split, examples)
    total = sum(len(asked(task, example)) for example in examples)
    long_rows.check(found[split], total, f"{split} inputs", config.too_long)
  return found


def of_run(
  config: ConfigDict, task: Task, workdir: epath.Path
) -> dict[str, list[LongRow]]:
  """What `check_prompts` finds of the examples of a run, or has found."""
  path, digest = workdir / _FILE, _digest(config, task, workdir)
  known = records.read_json(path, "delete it") if path.exists() else {}
  if known.get("of") == digest:
    return {
      split: [LongRow(*row) for row in rows]
      for split, rows in known["long"].items()
    }
  found = check_prompts(
    config,
    task,
    {
      split: ExampleFiles(setup.examples_path(workdir, split))
      for split in _SPLITS
    },
  )
  remember(config, task, workdir, found)
  return found


def remember(
  config: ConfigDict,
  task: Task,
  workdir: epath.Path,
  found: Mapping[str, Sequence[LongRow]],
) -> None:
  """Writes what `check_prompts` has found, for the next start."""
  if hosts.is_lead():
    known = {"of": _digest(config, task, workdir), "long": found}
    records.write_text(workdir / _FILE, records.dumps(known) + "\n")


def _digest(config: ConfigDict, task: Task, workdir: epath.Path) -> str:
  """Of the examples and all that makes prompts of them, and tokens of these.

  Of all settings: which ones are in a prompt is for its task to know.
  """
  model = setup.base_without_weights(config)
  made_by = {
    "settings": json.loads(config.to_json()),
    "tokenizer": fingerprint.of_tokenizer(model.tokenizer),
    "chat": setup.chat_template(config, model).source,
    "window": model.config.max_context,
    "prompts": [
      repr(setup.prompts_of(config, task, name))
      for name in _asked_by(config, task, "test")
    ],
  }
  files = (setup.examples_path(workdir, split) for split in _SPLITS)
  return made_from.digest(made_by, files)


def summary(found: Mapping[str, Sequence[LongRow]]) -> str:
  """What becomes of them, to stand behind other words; may be empty."""
  said = ""
  for split, long in found.items():
    if long:
      fate = "left out" if split == "train" else "counted as not answered"
      inputs = long_rows.counted(len(long), f"{split} input")
      names = long_rows.listed(row.name for row in long)
      said += f"; {fate} as too long: {inputs} {names}"
  return said


def row_limit(config: ConfigDict) -> str:
  """What a sentence calls the length of a row of the fine-tune."""
  return f"finetune.row_length={config.finetune.row_length}"


def window_limit(window: int) -> str:
  """What a sentence calls the model's window."""
  return f"the model's window of {window}"


def of_targets(
  chat: ChatTemplate, records: Sequence[Record], most: int
) -> list[int]:
  """Tokens of prompt, thought and target together, if all is taught.

  Of those that have no more than `most` in any case, this is told in place.
  """

  def text(record: Record) -> str:
    reply = reply_of(record["target"], record.get("thought", ""))
    return chat.answered(record["prompt"], reply).text

  return _beyond(chat, list(map(text, records)), [most] * len(records))


def _beyond(
  chat: ChatTemplate, texts: Sequence[str], most: Sequence[int]
) -> list[int]:
  """Tokens of each text that may have more than its `most`; else that."""
  lengths = list(most)
  may_be = [
    index
    for index, (text, limit) in enumerate(zip(texts, most, strict=True))
    if chat.most_tokens(text) > limit
  ]
  found = chat.lengths([texts[index] for index in may_be])
  for index, length in zip(may_be, found, strict=True):
    lengths[index] = length
  return lengths


def of_thoughts(chat: ChatTemplate, records: Iterable[Record]) -> list[int]:
  """Tokens of thoughts, with the end of the line as before an answer."""
  thoughts = (record["thought"] for record in records)
  return _of_texts(chat, (one and f"{one}\n" for one in thoughts))


def _of_texts(chat: ChatTemplate, texts: Iterable[str]) -> list[int]:
  lengths, texts = [], iter(texts)
  while some := list(itertools.islice(texts, _TOGETHER)):
    lengths += chat.lengths(some)
  return lengths


def _long_rows(
  config: ConfigDict, task: Task, split: str, examples: Sequence[Example]
) -> list[LongRow]:
  """An input once, by the first of its prompts that is too long."""
  model = setup.base_without_weights(config)
  chat = setup.chat_template(config, model)
  window = model.config.max_context
  found: dict[tuple[str, str], LongRow] = {}
  quiet = len(examples) < _MANY or not hosts.is_lead()
  label = f"measure {split}"
  with Progress(label, len(examples), "examples", quiet=quiet) as progress:
    for start in range(0, len(examples), _TOGETHER):
      together = examples[start : start + _TOGETHER]
      prompts = list(_prompts(config, task, chat, window, split, together))
      texts = [prompt.text for prompt in prompts]
      lengths = _beyond(chat, texts, [prompt.fits for prompt in prompts])
      for prompt, length in zip(prompts, lengths, strict=True):
        name = prompt.example_id, prompt.variant
        row = _too_long(prompt, length)
        if row is not None:
          found.setdefault(name, row)
      progress.advance(len(together))
  return list(found.values())


def _prompts(
  config: ConfigDict,
  task: Task,
  chat: ChatTemplate,
  window: int,
  split: str,
  examples: Sequence[Example],
) -> Iterator[_Prompt]:
  """Those that depend on no reply: of System 1, and of the run's methods."""
  in_row = _Limit(config.finetune.row_length, 1, row_limit(config))
  for name in _asked_by(config, task, split):
    method = methods.by_name(name)
    templates = for_chat(setup.prompts_of(config, task, name), chat)
    in_train = name == "system1" and split == "train"
    called = "a prompt" + f" with prompts.{SHOTS}.shots" * (name == SHOTS)
    for example in examples:
      for variant in asked(task, example):
        fields = task.fields(example, variant)
        for call in method.first_calls(fields, templates):
          is_taught = in_train and variant not in task.perturbations
          in_window = _Limit(window, call.max_new_tokens, window_limit(window))
          yield _Prompt(
            example.id,
            variant,
            called,
            call.prompt(chat),
            (in_window, in_row) if is_taught else (in_window,),
          )


def _asked_by(config: ConfigDict, task: Task, split: str) -> list[str]:
  """Names of the methods whose first prompts are asked in a split."""
  names = ["system1"]
  if config.curation.select != "label":  # which samples nothing
    names.append(config.method)
  if split == "test" and setup.has_shots_control(config, task):
    names.append(SHOTS)
  return [*dict.fromkeys(names)]


def _too_long(prompt: _Prompt, length: int) -> LongRow | None:
  """What a prompt of so many tokens does not fit, if there is such a thing."""
  for limit in prompt.limits:
    if length + limit.reply > limit.most:
      size = f"{prompt.name} of {length} tokens and {limit.reply} of its reply"
      return LongRow(prompt.example_id, prompt.variant, size, limit.name)
  return None

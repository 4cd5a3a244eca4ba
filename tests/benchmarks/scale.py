"""Time, memory and disk of the stages without a model, by number of questions.

python -m tests.benchmarks.scale --questions=10000,100000

Makes runs of a two-step method whose samples nobody drew: their answers come
from a distribution, in the order in which an engine would have ended them. Each
stage runs in a process of its own, in the order in which a run has them. A run
that is there already is measured again, so stages can be measured one by one;
at a million questions make sure that the disk has room for the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import json
import math
import pathlib
import random
import subprocess
import sys
import time
from unittest import mock

from absl import app, flags
from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.config import default
from s2d_jax.parallel import hosts
from s2d_jax.records import Record
from s2d_jax.stages import (
  curate,
  finetune,
  prepare,
  program,
  report,
  sample,
  setup,
  status,
)
from s2d_jax.stages.shards import RecordShards
from s2d_jax.system2.program import for_chat
from s2d_jax.training.packing import arrange, stack
from tests import tiny_chat

_ROOT = pathlib.Path(__file__).parents[2]
_SAMPLES = 8
_WORDS = ("Lima", "Quito", "Paris", "Oslo")
_HOSTS = 8  # of which one is measured when it goes on
_IN_FLIGHT = 512  # samples that may end before an earlier one does
_WINDOW = 8192  # bytes, which are the tokens of the tiny model

_QUESTIONS = flags.DEFINE_list(
  "questions", ["10000", "100000"], "Sizes of the runs."
)
_STAGES = flags.DEFINE_list("stages", [], "Those to measure; none: all.")
_FOLDER = flags.DEFINE_string("folder", "build/scale", "Where runs are made.")
_PROMPT = flags.DEFINE_integer(
  "prompt", 3000, "Bytes of worked examples in the first step's prompt.", 0
)
_STAGE = flags.DEFINE_string("stage", "", "Runs it here, on the one size.")


def config(folder: epath.Path, questions: int, prompt: int) -> ConfigDict:
  """Of a run of so many questions to learn from."""
  made = default()
  made.model.name = str(folder / "tiny")
  made.model.date = "2026-01-01"
  made.method = "s2a"
  with made.unlocked():
    made.task = {
      "name": "custom",
      "train": str(folder / f"{questions}.jsonl"),
      "prompt": "What is the capital of {place}?",
      "answer": {"kind": "choice", "options": _WORDS},
      "valid_size": _held_out(questions),
      "test_size": _held_out(questions),
    }
    made.prompts.extract = {"shots": _shots(prompt), "max_new_tokens": 64}
  made.sampling.n = _SAMPLES
  made.sampling.confidence = 0.0
  made.curation.min_margin = 0.3
  made.curation.min_agreement = 0.0
  made.retention.n = 0
  return made


def _held_out(questions: int) -> int:
  """Questions of the valid and of the test split."""
  return max(questions // 100, 10)


def _shots(size: int) -> tuple[tuple[str, str], ...]:
  """Worked examples of about so many bytes."""
  name = _names(random.Random("shots"))
  shots = []
  while size > 0:
    question = f"What is the capital of {next(name)}?"
    shot = f"{question} I think it is {next(name)}.", f"Question: {question}"
    shots.append(shot)
    size -= sum(map(len, shot))
  return tuple(shots)


def _names(rng: random.Random) -> Iterator[str]:
  """Of places that nobody has heard of, two to five syllables."""
  while True:
    syllables = [
      rng.choice("bdfgklmnprstvz") + rng.choice("aeiou")
      for _ in range(rng.randint(2, 5))
    ]
    yield "".join(syllables).capitalize()


def _make_rows(folder: epath.Path, questions: int) -> None:
  total = questions + 2 * _held_out(questions)
  name = _names(random.Random(questions))
  rows = (
    {"place": f"{next(name)} {number}", "answer": None}
    for number in range(total)
  )
  records.write(folder / f"{questions}.jsonl", rows)


def draw(config: ConfigDict, workdir: epath.Path) -> str:
  """Writes the samples, in the order in which an engine might end them."""
  rng = random.Random(0)
  folder = sample.samples_folder(config, workdir)
  made = _samples(config, workdir, rng)
  path = folder / "part-00000-of-00001.jsonl"
  records.write(path, _ended(made, rng))
  drawn = _SAMPLES * len(sample.training_examples(workdir))
  return f"{path.stat().length / drawn:,.0f} bytes a sample"


def _ended(made: Iterator[Record], rng: random.Random) -> Iterator[Record]:
  """The records out of order, each by no more than what is under way."""
  waiting = []
  for record in made:
    waiting.append(record)
    if len(waiting) > _IN_FLIGHT:
      place = rng.randrange(len(waiting))
      waiting[place], waiting[-1] = waiting[-1], waiting[place]
      yield waiting.pop()
  yield from waiting


def _samples(
  config: ConfigDict, workdir: epath.Path, rng: random.Random
) -> Iterator[Record]:
  """Of every question; how clear its answer is differs from one to another."""
  task = setup.task_of(config)
  model = setup.base_without_weights(config)
  chat = setup.chat_template(config, model)
  templates = for_chat(setup.prompts_of(config, task, config.method), chat)
  first, second = (
    _prompt(chat, templates[name]) for name in ("extract", "system1")
  )
  frames = sample.prompt_frames(config, task, model)
  frames.write(sample.samples_folder(config, workdir))
  for example in sample.training_examples(workdir):
    text = task.fields(example, task.plain)["text"]
    right, wrong = rng.sample(_WORDS, 2)
    share = rng.betavariate(2, 1)
    for number in range(_SAMPLES):
      answer = right if rng.random() < share else wrong
      reply = f"{answer}." if rng.random() < 0.5 else f"It is {answer}."
      yield {
        "example_id": example.id,
        "variant": task.plain,
        "sample": number,
        "steps": [
          frames.split(_step(prompt(text), said, rng))
          for prompt, said in (
            (first, f"Context: none\nQuestion: {text}"),
            (second, reply),
          )
        ],
        "reply": reply,
        "answer": answer,
        "tier": "strict",
      }


def _prompt(chat, template) -> Callable[[str], str]:
  """Prompts with the text in its place, without rendering each."""
  values = dict.fromkeys(template.placeholders, "one name") | {"text": "\0"}
  before, _, after = template.ask(**values).prompt(chat).partition("\0")
  return lambda text: f"{before}{text}{after}"


def _step(prompt: str, text: str, rng: random.Random) -> Record:
  return {
    "prompt": prompt,
    "text": text,
    "tokens": len(text) + 1,
    "prompt_tokens": len(prompt),
    "logprob": round(-rng.expovariate(0.5), 4),
    "finish": "stop",
  }


def _resume(config: ConfigDict, workdir: epath.Path) -> str:
  """What one of several hosts does before it draws what is missing."""
  task = setup.task_of(config)
  sample._measure(config, workdir, task)
  examples = sample.training_examples(workdir)
  votes = sample._Votes(config, workdir, task, examples, ())
  share = lambda items: items[::_HOSTS]
  with mock.patch.object(hosts, "share", share):
    shards = _shards(config, workdir, examples)
    shards.__enter__()
    found = sample._recovered(config, task, examples, votes, (), shards)
  return f"{found.decided.sum()} examples decided by {shards.count()} samples"


def _merge(config: ConfigDict, workdir: epath.Path) -> str:
  """The end of sampling."""
  with _shards(config, workdir, sample.training_examples(workdir)) as shards:
    return f"{shards.count()} samples"


def _shards(config, workdir, examples) -> RecordShards:
  folder = sample.samples_folder(config, workdir)
  return RecordShards(folder, sample.sample_order(examples.ids), "host")


def _pack(config: ConfigDict, workdir: epath.Path) -> str:
  """The fine-tune up to its first update."""
  chat = setup.chat_template(config, setup.base_without_weights(config))
  examples = finetune._examples(config, chat, workdir, "train")
  began = time.process_time()
  length = config.finetune.row_length
  rows = stack(arrange(examples, length), length)
  seconds = time.process_time() - began
  return (
    f"{len(examples)} examples in {len(rows.tokens)} rows,"
    f" {rows.padding:.2%} padding, packed in {seconds:.1f} s"
  )


def _status(config: ConfigDict, workdir: epath.Path) -> str:
  del config
  return status.inspect_run(workdir)[1].summary


# In the order of a run.
STAGES: dict[str, Callable[[ConfigDict, epath.Path], str | None]] = {
  "prepare": prepare.run,
  "draw": draw,
  "status": _status,
  "resume": _resume,
  "merge": _merge,
  "curate": curate.run,
  "pack": _pack,
  "report": report.build,
}


def _run_here(name: str, folder: epath.Path, questions: int) -> None:
  """Runs a stage and prints its figures as the last line."""
  own = config(folder, questions, _PROMPT.value)
  workdir = folder / f"run-{questions}"
  program.unmark(workdir, name)
  began, used = time.perf_counter(), time.process_time()
  said = STAGES[name](own, workdir)
  print(
    json.dumps(
      {
        "said": said,
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - used,
        "peak": _peak(),
      }
    )
  )


def _peak() -> int:
  """Most bytes that this process held; `getrusage` has its parent's, too."""
  found = pathlib.Path("/proc/self/status").read_text()
  return 1024 * int(found.partition("VmHWM:")[2].split()[0])


def _measure(name: str, folder: epath.Path, questions: int) -> Record:
  """The figures of a stage, with the bytes that it left in the workdir."""
  workdir = folder / f"run-{questions}"
  before = _bytes(workdir)
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      __spec__.name,
      f"--stage={name}",
      f"--folder={folder}",
      f"--questions={questions}",
      f"--prompt={_PROMPT.value}",
    ],
    cwd=_ROOT,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  found = json.loads(done.stdout.splitlines()[-1])
  return found | {"bytes": _bytes(workdir) - before}


def _bytes(folder: epath.Path) -> int:
  files = pathlib.Path(folder).rglob("*")
  return sum(path.stat().st_size for path in files if path.is_file())


def make_run(folder: epath.Path, questions: int, prompt: int) -> None:
  """Writes the model, the rows, and the settings as a run has them."""
  if not (folder / "tiny").exists():
    tiny_chat.write(pathlib.Path(folder / "tiny"), window=_WINDOW)
  _make_rows(folder, questions)
  settings = json.loads(config(folder, questions, prompt).to_json())
  path = folder / f"run-{questions}" / "config.json"
  records.write_text(path, json.dumps(settings, indent=2) + "\n")


def exponent(sizes: Sequence[int], figures: Sequence[float]) -> float:
  """Of growth between the first and the last size: 1 is linear."""
  grown = math.log(figures[-1] / figures[0])
  return grown / math.log(sizes[-1] / sizes[0])


def table(found: dict[str, list[Record]], sizes: Sequence[int]) -> str:
  """A line a stage and size; the exponent of its time stands at the last."""
  lines = [
    "| stage | questions | seconds | of the CPU | peak MB | MB written |"
    " exponent |",
    "|---|---:|---:|---:|---:|---:|---:|",
  ]
  for name, figures in found.items():
    for size, one in zip(sizes, figures, strict=True):
      grown = ""
      if size == sizes[-1] != sizes[0]:
        grown = f"{exponent(sizes, [each['cpu'] for each in figures]):.2f}"
      lines.append(
        f"| {name} | {size:,} | {one['seconds']:.1f} | {one['cpu']:.1f} |"
        f" {one['peak'] / 1e6:,.0f} | {one['bytes'] / 1e6:,.1f} |"
        f" {grown} |"
      )
  return "\n".join(lines)


def main(_) -> None:
  folder = epath.Path(_FOLDER.value).absolute()
  sizes = [int(size) for size in _QUESTIONS.value]
  if _STAGE.value:
    _run_here(_STAGE.value, folder, *sizes)
    return
  names = _STAGES.value or list(STAGES)
  found = {name: [] for name in names}
  for size in sizes:
    make_run(folder, size, _PROMPT.value)
    for name in names:
      one = _measure(name, folder, size)
      print(f"{size:,} {name}: {one['said']}", file=sys.stderr, flush=True)
      found[name].append(one)
  print(table(found, sizes))


if __name__ == "__main__":
  app.run(main)

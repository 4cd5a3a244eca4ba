"""Hosts that come and go, and what they leave: as if it had been one host.

    python -m tests.pods --questions=20000 --hosts=16,11,16,5

Processes that are joined as hosts are answer questions without a model, each at
a pace of its own, through everything that `sample` does else: they deal the
questions, append to their shards, and go on from those of others. Of all but
the last of so many hosts each is killed at a random moment. In the end every
sample must be there once, and all of them be those of a run of one host.

Time is simulated: no host goes on to the next moment before all have come to
this one. So it is known how long each waits for the last one to end, in units
of the time that its batch takes; with `--fixed` hosts take every n-th question,
as a comparison. A million questions take an hour on two cores that are busy
with other programs, half of it for the run of one host.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Callable, Iterator, Sequence
import hashlib
import heapq
import json
import random
import shutil
import sys
import tempfile
import time
from typing import NamedTuple
from unittest import mock

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import ordered, records
from s2d_jax.generation.engine import Completion, random_key
from s2d_jax.parallel import dealing, hosts
from s2d_jax.stages import sample, setup
from s2d_jax.system2.scheduler import PROGRAMS_PER_ROW, Job, Jobs, Result, Step
from s2d_jax.tasks.custom import Custom
from tests.benchmarks import scale
from tests.processes import Processes

_TICK = 0.25  # of the time that a batch takes on the quickest host
_SLOWEST = 3.0  # as many times slower than the quickest
_PROGRAM = "from tests import pods; pods.be_host()"
_LONGEST = 3600.0  # seconds of a process


class Run(NamedTuple):
  """What all hosts of a run know.

  Attributes:
    folder: where its files are.
    questions: to learn from.
    samples: of each.
    rows: of a batch.
    seed: of the hosts' paces.
    fixed: whether hosts take every n-th question.
    name: of its workdir.
  """

  folder: str
  questions: int
  samples: int
  rows: int
  seed: int = 0
  fixed: bool = False
  name: str = "several"

  @property
  def workdir(self) -> epath.Path:
    return epath.Path(self.folder) / self.name

  @property
  def config(self) -> ConfigDict:
    made = scale.config(epath.Path(self.folder), self.questions, prompt=0)
    made.sampling.n, made.sampling.batch_rows = self.samples, self.rows
    return made

  @property
  def parts(self) -> list[ordered.Part]:
    folder = sample.samples_folder(self.config, self.workdir)
    return [ordered.Part(path) for path in sorted(folder.glob("part-*"))]

  def count(self) -> int:
    """Samples that are there."""
    return sum(records.count_lines(*part) for part in self.parts)

  def pace(self, host: int) -> float:
    """Seconds, in simulated time, in which a batch takes on this host."""
    return random.Random(f"{self.seed} {host}").uniform(1, _SLOWEST)


class Clock:
  """The simulated time of all hosts.

  Attributes:
    seconds: since the start.
  """

  def __init__(self):
    self.seconds = 0.0
    self._tick = 0

  def wait(self, is_working: bool) -> bool:
    """Waits for all to come to the next tick; whether any is still working."""
    self.seconds += _TICK
    if hosts.count() == 1:
      return is_working
    key, client = f"clock/{self._tick}", hosts._client()
    client.key_value_increment(key, int(is_working))
    client.wait_at_barrier(f"{key}/all", int(_LONGEST * 1000))
    working = client.key_value_increment(key, 0)
    if hosts.is_lead() and self._tick:  # which all have read
      client.key_value_delete(f"clock/{self._tick - 1}")
    self._tick += 1
    return working > 0


class Scheduler:
  """Has the part of `system2.scheduler.Scheduler`, with rows but no engine.

  Attributes:
    rows: of its batch.
    in_flight: jobs that are under way.
    waited: seconds for other hosts in the end, in simulated time.
  """

  def __init__(self, run: Run):
    self.rows, self._pace = run.rows, run.pace(hosts.index())
    self._clock = Clock()
    self.in_flight = 0
    self.waited = 0.0

  def run(self, jobs: Jobs) -> Iterator[Result]:
    queue, drawn = collections.deque(), []  # what waits for a row; has one
    now = 0.0
    while True:
      while self.in_flight < PROGRAMS_PER_ROW * self.rows and jobs:
        queue.append(jobs.popleft())
        self.in_flight += 1
      while queue and len(drawn) < self.rows:
        job = queue.popleft()
        end = now + self._pace * _length(job.name)
        heapq.heappush(drawn, (end, job.name, job))
      if not drawn:
        break
      while drawn[0][0] > self._clock.seconds:
        self._clock.wait(is_working=True)
      now, _, job = heapq.heappop(drawn)
      self.in_flight -= 1
      yield _result(job)
    ended = self._clock.seconds
    while self._clock.wait(is_working=False):
      pass
    self.waited = self._clock.seconds - _TICK - ended


def _length(name: Sequence[str | int]) -> float:
  """How long a sample takes; 1 is the mean."""
  return 0.5 + random_key("length", *name) / 2**64


def _result(job: Job) -> Result:
  """A reply that follows from the name of the sample, as it should."""
  key = random_key("reply", *job.name)
  text = f"It is {scale._WORDS[key % len(scale._WORDS)]}."
  reply = Completion(text, tuple(range(len(text))), -1.0, "stop")
  prompt = job.fields["text"]
  return Result(job, [Step(prompt, len(prompt), reply)], [text])


def _sample(run: Run) -> Scheduler:
  """Samples on this host, with all but what asks a model."""
  scheduler = Scheduler(run)
  nothing_is_long = {"train": [], "valid": [], "test": []}
  replaced = [
    mock.patch.object(sample, "_measure", lambda *_: nothing_is_long),
    mock.patch.object(
      setup, "thinker", lambda config, _: setup.base_without_weights(config)
    ),
    mock.patch.object(setup, "scheduler", lambda *_: scheduler),
    mock.patch.object(Custom, "answer", _answer_once(Custom.answer)),
  ]
  if run.fixed:
    deal = lambda dealt: iter(hosts.share(dealt.items))
    replaced.append(mock.patch.object(dealing.Deal, "__iter__", deal))
    replaced.append(mock.patch.object(dealing.Deal, "most_begun", 10**9))
  for one in replaced:
    one.start()
  try:
    sample.run(run.config, run.workdir)
  finally:
    mock.patch.stopall()
  return scheduler


def _answer_once(answer: Callable) -> Callable:
  """Looks for the answer in a reply only when it is given for the first time.

  There are four, and looking for theirs would take half of the time.
  """
  known = {}

  def find(task, example, variant, reply):
    if reply not in known:
      known[reply] = answer(task, example, variant, reply)
    return known[reply]

  return find


def be_host() -> None:
  """What a process does; it prints how long it waited as the last line."""
  parser = argparse.ArgumentParser()
  for name in ("run", "coordinator"):
    parser.add_argument(f"--{name}")
  for name in ("num_processes", "process_id"):
    parser.add_argument(f"--{name}", type=int)
  given = parser.parse_args()
  hosts._HEARTBEAT_SECONDS = 30
  hosts.initialize(
    given.coordinator, given.num_processes, given.process_id, timeout=600
  )
  run = Run(*json.loads(given.run))
  waited = _sample(run).waited
  memory = scale._peak()
  hosts.barrier("end")
  print(json.dumps({"waited": waited, "memory": memory}), flush=True)


def make_examples(run: Run) -> None:
  """Makes the model's files, and examples as `prepare` would."""
  scale.make_run(epath.Path(run.folder), run.questions, prompt=0)
  few = run.config.task.valid_size
  for split, count in ("train", run.questions), ("valid", few), ("test", few):
    records.write(
      setup.examples_path(run.workdir, split),
      (_example(f"{split}/{number}") for number in range(count)),
    )


def _example(name: str) -> records.Record:
  question = f"What is the capital of {name}?"
  inputs = {"question": question, "texts": {"plain": question}}
  return {"id": name, "task": "custom", "inputs": inputs, "label": None}


def with_same_examples(run: Run, name: str) -> Run:
  """Another run, in which nothing is sampled yet."""
  other = run._replace(name=name)
  shutil.copytree(run.workdir / "examples", other.workdir / "examples")
  return other


def sample_with(run: Run, counts: Sequence[int]) -> list[dict]:
  """Samples with so many hosts, one after the other; returns what the last say.

  Of all before them each process is killed, within a second, at a moment when a
  random number of samples was there.
  """
  rng = random.Random(run.seed)
  total = run.samples * len(sample.training_examples(run.workdir))
  moments = sorted(rng.uniform(0.02, 0.98) for _ in counts[1:])
  for count, moment in zip(counts, moments, strict=False):
    _kill(_start(run, count), run, int(moment * total), rng)
    _show(f"{count} hosts were killed, {run.count():,} of {total:,} samples")
  ended = _start(run, counts[-1]).wait(_LONGEST)
  for one in ended:
    if one.status:
      raise AssertionError(one.err)
  return [json.loads(one.out.splitlines()[-1]) for one in ended]


def _start(run: Run, count: int) -> Processes:
  return Processes(count, _PROGRAM, [f"--run={json.dumps(run)}"])


def _kill(processes: Processes, run: Run, samples: int, rng) -> None:
  """Kills each, in a random order, once so many samples are there."""
  began = time.monotonic()
  while run.count() < samples:
    if not processes.are_running:
      raise AssertionError(processes.wait(60))
    time.sleep(0.05 + 10 * (time.monotonic() - began))  # little is spent on it
    began = time.monotonic()
  order = list(range(len(processes)))
  rng.shuffle(order)
  for index in order:
    processes.kill(index)
    time.sleep(rng.uniform(0, 1 / len(order)))
  processes.wait(60)


def digest(run: Run) -> str:
  """Of all samples in their order, without a line that is there twice."""
  ids = sample.training_examples(run.workdir).ids
  found = hashlib.blake2b()
  for line in ordered.lines(run.parts, sample.sample_order(ids)):
    found.update(line + b"\n")
  return found.hexdigest()


def _show(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  numbers = lambda text: [int(one) for one in text.split(",")]
  parser.add_argument("--questions", type=int, default=20_000)
  parser.add_argument("--samples", type=int, default=2)
  parser.add_argument("--rows", type=int, default=64)
  parser.add_argument("--hosts", type=numbers, default=[16, 11, 16, 5])
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--fixed", action="store_true")
  parser.add_argument("--folder", default=None)
  given = parser.parse_args()
  settings = (given.questions, given.samples, given.rows, given.seed)
  with tempfile.TemporaryDirectory(dir=given.folder) as folder:
    run = Run(folder, *settings, given.fixed)
    make_examples(run)
    alone = with_same_examples(run, "alone")
    said = sample_with(run, given.hosts)
    _show(table(run, said))
    sample_with(alone, [1])
    samples, wanted = run.count(), alone.count()
    is_same = samples == wanted and digest(run) == digest(alone)
  told = {
    "questions": run.questions,
    "samples": samples,
    "wanted": wanted,
    "same": is_same,
    "peak_memory": max(one["memory"] for one in said),
  }
  print(json.dumps(told))
  return not is_same


def table(run: Run, said: Sequence[dict]) -> str:
  """How long each host waited."""
  slowest = max(map(run.pace, range(len(said))))
  lines = [
    "| host | seconds a batch | waited | own batches | of the slowest |",
    "|---:|---:|---:|---:|---:|",
  ]
  for host, one in enumerate(said):
    pace, waited = run.pace(host), one["waited"]
    lines.append(
      f"| {host} | {pace:.2f} | {waited:.2f} | {waited / pace:.2f} |"
      f" {waited / slowest:.2f} |"
    )
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())

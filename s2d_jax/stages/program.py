"""What the programs of all stages share: flags, the workdir, error messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import difflib
import json
import os
import runpy
import sys
import time
import traceback
from typing import Literal, NoReturn

from absl import app, flags, logging
from etils import epath
from ml_collections import ConfigDict, config_flags

from s2d_jax import (
  buckets,
  conversation,
  full_disk,
  interrupts,
  profiling,
  records,
  tracking,
)
from s2d_jax.config import default
from s2d_jax.errors import Preempted, UserError
from s2d_jax.metrics import Curve
from s2d_jax.parallel import hosts, topology
from s2d_jax.progress import Progress
from s2d_jax.reporting.run_files import mark_of
from s2d_jax.stages import model_record, provenance, setup
from s2d_jax.stages.joint_progress import JointProgress

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "File with get_config(), for instance configs/quickstart.py; the text after a"
  " colon is its argument. More flags change any setting:"
  " --config.sampling.n=8",
)
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of the run, local or gs://; created if missing. Several hosts share"
  " it.",
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator",
  None,
  "host:port of process 0, if a run has several processes. Not needed with"
  " Slurm, Open MPI, GKE and multi-slice TPUs.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Number of processes, with --coordinator."
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Number of this process, with --coordinator."
)
_MULTIHOST = flags.DEFINE_boolean(
  "multihost",
  None,
  "Lets JAX find the other hosts: for TPU VMs, where only the metadata server"
  " knows them. --nomultihost: this process is a run of its own.",
)
_COORDINATOR_TIMEOUT = flags.DEFINE_integer(
  "coordinator_timeout",
  120,
  "Seconds in which the processes of a run must have found each other; else the"
  " program ends with status 75.",
  lower_bound=1,
)
_WANDB = flags.DEFINE_boolean(
  "wandb",
  False,
  "Also logs the curves of sampling and fine-tune to Weights & Biases; needs"
  " pip install 's2d_jax[wandb]'. WANDB_MODE, WANDB_PROJECT and WANDB_ENTITY"
  " apply; a workdir stays one run, however often it is started.",
)
_PROFILE = flags.DEFINE_boolean(
  "profile",
  False,
  "Traces some seconds of sampling and some updates of the fine-tune, on the"
  " first host, into WORKDIR/profile/STAGE: view it with `xprof"
  " --logdir=WORKDIR/profile/STAGE`, or open its .trace.json.gz in"
  " ui.perfetto.dev.",
)
# Flags by which the processes of a program find each other.
HOSTS = (
  "coordinator",
  "num_processes",
  "process_id",
  "multihost",
  "coordinator_timeout",
)

Stage = Callable[[ConfigDict, epath.Path], None]


def main(
  run: Stage,
  description: str,
  flag_names: Sequence[str] = (),
  is_one_run: bool = True,
) -> None:
  """Runs a stage as a program with `--config` and `--workdir`.

  Args:
    run: the stage.
    description: what `--help` prints first.
    flag_names: of flags that only this program has.
    is_one_run: whether the workdir is that of a run; a program of several runs
      calls `run_claimed` for each.
  """

  def start(argv: Sequence[str]) -> None:
    del argv
    config = _CONFIG.value
    if config is None or not _WORKDIR.value:
      raise UserError(
        "give --config=FILE and --workdir=FOLDER, for instance"
        " --config=configs/quickstart.py --workdir=runs/quickstart"
      )
    setup.check(config)
    workdir = epath.Path(_WORKDIR.value)
    with on_all_hosts(), full_disk.mistakes(workdir):
      if is_one_run:
        run_claimed(run, config, workdir)
      else:
        run(config, workdir)

  names = ("config", "workdir", *flag_names, "wandb", "profile", *HOSTS)
  run_program(start, description, names)


@contextlib.contextmanager
def on_all_hosts() -> Iterator[None]:
  """Finds the other processes, as the flags say, and ends with them."""
  hosts.initialize(
    _COORDINATOR.value,
    _NUM_PROCESSES.value,
    _PROCESS_ID.value,
    _MULTIHOST.value,
    _COORDINATOR_TIMEOUT.value,
  )
  if not hosts.is_lead():
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  to the end
  yield
  hosts.barrier("end")


def run_claimed(run: Stage, config: ConfigDict, workdir: epath.Path) -> None:
  """Runs a stage in a workdir that is, or becomes, one of this config."""
  claim_workdir(config, workdir)
  with _instrumented(config, workdir):
    run(config, workdir)


@contextlib.contextmanager
def _instrumented(config: ConfigDict, workdir: epath.Path) -> Iterator[None]:
  """Traces and tracks what runs inside, as the flags say."""
  with contextlib.ExitStack() as stack:
    if hosts.is_lead():
      if _PROFILE.value:
        profiling.enable(workdir)
        stack.callback(profiling.enable, None)
      if _WANDB.value:
        settings = json.loads(config.to_json())
        stack.enter_context(tracking.wandb_run(workdir, settings))
    yield


def run_program(
  start: Callable[[Sequence[str]], None],
  description: str,
  flag_names: Sequence[str],
) -> None:
  """`app.run` with a full --help, and user errors as one line.

  A user's mistake ends the process with status 1, hosts that do not answer with
  75, Ctrl-C with 130, SIGTERM where it is awaited with 143; the other processes
  of the run end with it.
  """

  def quiet_start(argv: Sequence[str]) -> None:
    # Libraries log every checkpoint at length; --verbosity=0 shows it.
    if not flags.FLAGS["verbosity"].present:
      logging.set_verbosity(logging.ERROR)
      buckets.be_quiet()
      full_disk.be_quiet()
    with buckets.mistakes(), topology.mistakes():
      start(argv)

  def parse(argv: Sequence[str]) -> list[str]:
    if {"--help", "-h", "-help"} & set(argv):
      print(_help(description, flag_names))
      sys.exit(0)
    return _parse_flags(argv)

  try:
    with interrupts.sent_again():
      app.run(quiet_start, flags_parser=parse)
  except UserError as error:
    hosts.write_line(f"error: {hosts.log_prefix()}{error}")
    _end(str(error), error.status)
  except Preempted as error:
    hosts.write_line(f"{hosts.log_prefix()}{error}")
    hosts.barrier("preempted")  # what each is saving is whole
    _end(str(error), 143)
  except BrokenPipeError:  # who read the output has left, as `head` does
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  to the end
    _end("nobody reads the output", 1)
  except KeyboardInterrupt:
    print("\nstopped; run the same command again to go on", file=sys.stderr)
    _end("stopped", 130)
  except Exception as error:
    traceback.print_exc()
    _end(f"{type(error).__name__}: {error}", 1)


def _end(sentence: str, status: int) -> NoReturn:
  hosts.fail(sentence, status)
  sys.exit(status)


def _help(description: str, flag_names: Sequence[str]) -> str:
  lines = [description.strip(), "", "flags:"]
  lines += [f"  --{name}: {flags.FLAGS[name].help}" for name in flag_names]
  if "config" in flag_names:
    lines += ["", "settings, with their defaults:"]
    settings = _flatten(default())
    lines += [f"  --config.{name}={value}" for name, value in settings.items()]
  return "\n".join(lines)


def _parse_flags(argv: Sequence[str]) -> list[str]:
  _check_settings(argv)
  try:
    rest = flags.FLAGS(list(argv))
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as e:
    raise UserError(" ".join(str(e).split())) from None
  if len(rest) > 1:
    raise UserError(f"{rest[1]!r} is not a flag; flags begin with --")
  return rest


def _check_settings(argv: Sequence[str]) -> None:
  """Loads the config file and looks up every `--config.name` on the line.

  The flag parser would answer a mistake in either with a stack trace.
  """
  given = dict(argument.lstrip("-").partition("=")[::2] for argument in argv)
  path, *argument = given.get("config", "").split(":", 1)
  if not path:
    return
  if not os.path.isfile(path):
    raise UserError(f"--config={path}: there is no such file")
  try:
    config = runpy.run_path(path)["get_config"](*argument)
  except UserError:
    raise
  except Exception as error:  # whatever the user's file does
    reason = " ".join(str(error).strip("'\"").split())
    raise UserError(
      f"{path} does not load ({type(error).__name__}: {reason}); fix it"
    ) from None
  known = list(_flatten(config))
  for name in given:
    setting = name.removeprefix("config.")
    if name.startswith("config.") and setting not in known:
      nearest = difflib.get_close_matches(setting, known, n=1, cutoff=0.0)
      raise UserError(
        f"config.{setting} is not a setting of {path}; did you mean"
        f" config.{nearest[0]}?"
      )


def _flatten(config: ConfigDict, prefix: str = "") -> dict[str, object]:
  flat = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      flat |= _flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


# The devices that a run is computed on may change at any time, and so may
# whether a long row ends it, where its gate has System 2 think, and how many
# rounds there are beside it.
_FREE = (
  "mesh.", "sampling.mesh.", "sampling.scope", "too_long", "gate.",
  "rounds.count",
)  # fmt: skip

# Others may change until a stage has used them: who is told to fix a path or to
# lower a threshold need not start a new run. By setting or section: the stage,
# and the files it appends to. All the rest is used by prepare.
_USED_BY = {
  "model": ("sample", "samples/*/part-*"),
  "method": ("sample", "samples/*/part-*"),
  "prompts": ("sample", "samples/*/part-*"),
  "sampling": ("sample", "samples/*/part-*"),
  "curation": ("curate", None),
  "evaluation": ("evaluate base", None),
  "finetune": ("finetune", "checkpoints/*"),
  "finetune.row_length": ("curate", None),  # what does not fit is not kept
  "internalise": ("finetune", "checkpoints/*"),
  "retention": ("retention base", None),
}


def claim_workdir(config: ConfigDict, workdir: epath.Path) -> None:
  """Writes config.json, or checks that the folder is of the same run.

  Where `config` leaves the date open, it is filled in: the day on which the
  folder was made, whenever and wherever the run goes on.
  """
  _check_one_run(config, workdir)
  if hosts.is_lead():
    _claim(config, workdir)
  hosts.barrier("config.json")
  if not hosts.is_lead():
    _check_claim(config, workdir)
  hosts.barrier("same settings")


def _check_one_run(config: ConfigDict, workdir: epath.Path) -> None:
  """Raises UserError for the workdir of several runs, which holds none."""
  rounds, stages = config.rounds, config.internalise
  for name, first, is_wanted, most, one in (
    ("rounds", "rounds/1", rounds.count > 1 and not rounds.number,
     "rounds.count=2", "rounds.number=1"),
    ("stages", "stages/0", stages.stages and not stages.stage,
     "internalise.stages=1", "internalise.stage=0"),
  ):  # fmt: skip
    if is_wanted or (workdir / first).exists():
      raise UserError(
        f"{workdir} is for a run of several {name}, of which only s2d pipeline"
        f" and s2d report take it (with {most} or more); for one of them"
        f" give --config.{one} --workdir={workdir / first}"
      )


def _check_claim(config: ConfigDict, workdir: epath.Path) -> None:
  """Whether this host sees the lead's folder, and has the same settings."""
  path = workdir / "config.json"
  if not path.exists():
    raise UserError(
      f"{path}, which process 0 has written, is not there: --workdir must be a"
      " folder that all hosts share"
    )
  found = _read_claim(path)
  _fill_in_date(config, found)
  changed = _difference(found, json.loads(config.to_json()))
  if changed:
    raise UserError(
      "process 0 was started with other settings"
      f" ({'; '.join(changed.values())}); start all with the same"
    )


def _claim(config: ConfigDict, workdir: epath.Path) -> None:
  path = workdir / "config.json"
  found = _read_claim(path) if path.exists() else {}
  _fill_in_date(config, found)
  wanted = json.loads(config.to_json())
  if found:
    _check_changes(workdir, found, wanted)
  if found == wanted:
    return
  try:
    records.write_text(path, json.dumps(wanted, indent=2) + "\n")
  except OSError as error:
    reason = " ".join((error.strerror or str(error)).split())
    raise UserError(
      f"{workdir} cannot be written ({reason}); choose another --workdir"
    ) from None


def _read_claim(path: epath.Path) -> dict:
  return records.read_json(path, "delete it if this folder is yours to use")


def _fill_in_date(config: ConfigDict, found: dict) -> None:
  """That of the run, which begins today if it has none."""
  date = config.model.date or found.get("model", {}).get("date")
  config.model.date = date or conversation.today().isoformat()


def _check_changes(workdir: epath.Path, found: dict, wanted: dict) -> None:
  """Reports settings that have changed; refuses those that may not."""
  changed = _difference(found, wanted)
  if not found.get("model", {}).get("date"):  # a run of an earlier version
    changed.pop("model.date", None)
  fixed = [name for name in changed if not _may_change(workdir, name)]
  if fixed:
    listed = "; ".join(changed[name] for name in fixed)
    raise UserError(
      f"{workdir} holds a run with other settings ({listed}); use another"
      " --workdir"
    )
  if changed:
    print(f"settings changed: {'; '.join(changed.values())}", flush=True)


def _difference(found: dict, wanted: dict) -> dict[str, str]:
  """The settings that differ: name → what it is there and here."""
  new = _flatten(ConfigDict(wanted))
  # A setting that did not exist when the run began is at its default.
  defaults = _flatten(ConfigDict(json.loads(default().to_json())))
  old = {name: defaults[name] for name in defaults if name in new}
  old |= _flatten(ConfigDict(found))
  return {
    name: (
      f"{name}: {old.get(name, 'absent')} there, {new.get(name, 'absent')} here"
    )
    for name in sorted(old.keys() | new.keys())
    if old.get(name) != new.get(name)
  }


def _may_change(workdir: epath.Path, name: str) -> bool:
  if name.startswith(_FREE):
    return True
  section = _USED_BY.get(name.partition(".")[0], ("prepare", None))
  stage, growth = _USED_BY.get(name, section)
  if is_done(workdir, stage):
    return False
  grown = workdir.glob(growth) if growth else ()
  return not any(path.is_dir() or path.stat().length for path in grown)


def stage(
  name: str, on: Literal["lead", "all"] = "lead"
) -> Callable[[Callable[..., str]], Stage]:
  """Makes `(config, workdir) -> summary` a stage that is done once.

  It runs on the first host alone or on all; no host goes on before it is
  complete. The summary of the first host is printed, and kept in
  done/<name>.json, which marks the stage as complete: started again, it says so
  and returns. A stage of all hosts uses the model, which must be the run's.
  """

  def decorate(function: Callable[..., str]) -> Stage:
    def run(config: ConfigDict, workdir: epath.Path) -> None:
      mark = mark_of(workdir, name)
      if is_done(workdir, name):
        again = "delete it, and its stage runs again"
        made = records.read_json(mark, again)
        print(f"{name}: done already: {made.get('summary')}", flush=True)
        return
      began = time.monotonic()
      if on == "all":
        may_change = _may_change(epath.Path(workdir), "model.name")
        model_record.claim(config, epath.Path(workdir), may_change)
      if on == "all" or hosts.is_lead():
        summary = function(config, epath.Path(workdir))
      hosts.barrier(name)  # all have looked for the mark, and are through
      if hosts.is_lead():
        seconds = round(time.monotonic() - began, 1)
        made = {"summary": summary, "seconds": seconds}
        made |= provenance.of_stage(name, config, on == "all")
        records.write_text(mark, json.dumps(made) + "\n")
        print(f"{name}: {summary} ({seconds} s)", flush=True)

    run.__doc__ = function.__doc__
    return run

  return decorate


def progress(
  label: str, total: int, unit: str, done: int = 0, is_joint: bool = False
) -> Progress:
  """Only the first host shows it.

  Args:
    label: what is done.
    total: items.
    unit: their plural.
    done: items at the start.
    is_joint: whether the items are those of all hosts, which then all make it,
      in the same order as barriers; else they are this host's.
  """
  kind = JointProgress if is_joint and hosts.count() > 1 else Progress
  return kind(
    label,
    total,
    unit,
    done,
    quiet=not hosts.is_lead(),
    status="starting: new programs are compiled first",
  )


def curve(workdir: epath.Path, name: str, start: int) -> Curve:
  """Only the first host writes it."""
  return Curve(workdir, name, start, quiet=not hosts.is_lead())


def is_done(workdir: epath.Path, name: str) -> bool:
  """Whether a stage is complete."""
  return mark_of(workdir, name).exists()


def unmark(workdir: epath.Path, name: str) -> None:
  """Marks a stage as not done, so that it runs again."""
  if hosts.is_lead():
    mark_of(workdir, name).unlink(missing_ok=True)
  hosts.barrier(f"unmark {name}")

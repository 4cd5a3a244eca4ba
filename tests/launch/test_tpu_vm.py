"""The launcher, with a gcloud whose cloud is a folder; workers are real."""

from __future__ import annotations

import ast
import inspect
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from s2d_jax import cli

_ROOT = pathlib.Path(__file__).parents[2]
_LAUNCH = _ROOT / "launch"
_GCLOUD = pathlib.Path(__file__).with_name("fake_gcloud.sh")
_PLACE = ("--name=pod", "--zone=us-east5-a", "--project=lab", "--type=v5p-16")
_STAGE = ("s2d", "sample", "--config=configs/run.py", "--workdir=gs://b/run")
pytestmark = pytest.mark.skipif(
  shutil.which("setsid") is None, reason="the workers are Linux machines"
)
# Stands for the Python of a worker, whose pip has uv. That makes a folder, and
# in it an s2d that does what the test says.
_PYTHON = """
[ "$*" = "-m pip install --quiet --user uv" ] || exit 9
mkdir -p ~/.local/bin
cat >~/.local/bin/uv <<'END'
#!/usr/bin/env bash
if [ "$1" = venv ]; then mkdir -p venv/bin; exit; fi
test -f source/configs/run.py || exit 9
printf 'exec bash "$FAKE/program" "$@"\\n' >venv/bin/s2d
chmod +x venv/bin/s2d
END
chmod +x ~/.local/bin/uv
"""
# What a worker whose TPU is taken away sees of it, once.
_TAKEN_AWAY = """
if [ ! -e "$FAKE/taken-$WORKER" ]; then
  touch "$FAKE/taken-$WORKER"
  until [ -e "$FAKE/taken-0" ] && [ -e "$FAKE/taken-1" ]; do sleep 0.05; done
  echo PREEMPTED >"$FAKE/node"
  echo SUSPENDED >"$FAKE/request"
  exit 143
fi
"""


class Cloud:
  """A checkout with a launcher, and a cloud to launch in."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder / "cloud"
    self._checkout = folder / "checkout"
    self._bin = folder / "bin"
    for path in (self.folder, self._bin, self._checkout / "configs"):
      path.mkdir(parents=True)
    shutil.copytree(_LAUNCH, self._checkout / "launch")
    (self._checkout / "configs" / "run.py").write_text("")
    for arguments in (
      ["init", "--quiet"],
      ["add", "."],
      ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "run"],
    ):
      subprocess.run(["git", *arguments], cwd=self._checkout, check=True)
    self._command("gcloud", f'exec bash {_GCLOUD} "$@"')
    self._command("python3", _PYTHON)
    self._command("curl", "printf %s $WORKER")
    self.program('echo "$WORKER says $*"')

  def _command(self, name: str, text: str) -> None:
    path = self._bin / name
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)

  def program(self, text: str) -> None:
    """What `s2d` does on the workers, in bash."""
    self.put("program", text)

  def put(self, name: str, text: str) -> None:
    (self.folder / name).write_text(text)

  def start(self, *arguments: str, **environ: str) -> subprocess.Popen:
    return subprocess.Popen(
      ["bash", self._checkout / "launch" / "tpu_vm.sh", *arguments],
      env=os.environ
      | {
        "PATH": f"{self._bin}:/usr/bin:/bin",
        "FAKE": str(self.folder),
        "S2D_POLL_SECONDS": "0.05",
      }
      | environ,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  def run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
    launcher = self.start(*arguments, **environ)
    out, err = launcher.communicate(timeout=200)
    return launcher.returncode, out, err

  def launch(self, *more: str) -> tuple[int, str, str]:
    return self.run(*_PLACE, *more, "--", *_STAGE)

  @staticmethod
  def kill(launcher: subprocess.Popen) -> None:
    """As when a laptop dies; what it has started goes on."""
    launcher.kill()
    launcher.wait()
    for pipe in (launcher.stdin, launcher.stdout, launcher.stderr):
      pipe.close()

  def wait_for(self, line: str, launcher: subprocess.Popen) -> None:
    """Reads the log that the launcher shows until it has the line."""
    for said in launcher.stdout:
      if line in said:
        return
    raise AssertionError(f"{line!r} was not said: {launcher.stderr.read()}")

  @property
  def calls(self) -> list[str]:
    """What gcloud was told: "create", "ssh follow start" and so on."""
    path = self.folder / "calls"
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
      words = shlex.split(line)
      told = re.search(r"worker\.sh (\w+( \w+)?)", " ".join(words))
      found.append(f"{words[3]} {told[1]}" if told else words[3])
    return found

  def count(self, call: str) -> int:
    return sum(made.startswith(call) for made in self.calls)

  @property
  def is_empty(self) -> bool:
    return not any(
      (self.folder / name).exists() for name in ("node", "request", "worker-0")
    )


@pytest.fixture
def cloud(tmp_path) -> Cloud:
  made = Cloud(tmp_path)
  yield made
  if not made.is_empty:  # nothing that was started shall outlive the test
    subprocess.run(
      ["bash", _GCLOUD, *"compute tpus all delete".split()],
      env=os.environ | {"FAKE": str(made.folder)},
      check=True,
    )


def test_a_command_is_run_on_all_workers_and_the_tpu_deleted(cloud):
  status, out, err = cloud.launch("--spot")
  assert status == 0, err
  flags = "sample --config=configs/run.py --workdir=gs://b/run --multihost"
  assert sorted(out.splitlines()) == [
    f"[worker 0] 0 says {flags}",
    f"[worker 1] 1 says {flags}",
  ]
  assert "pod: WAITING_FOR_RESOURCES" in err
  assert "complete; pod is deleted" in err
  assert cloud.is_empty
  assert cloud.count("create") == cloud.count("ssh start") == 1


def test_it_goes_on_after_a_preemption(cloud):
  cloud.program(_TAKEN_AWAY + "echo done")
  status, out, err = cloud.launch("--spot")
  assert status == 0, err
  assert "pod was taken away; making it again" in err
  assert sorted(out.splitlines()) == ["[worker 0] done", "[worker 1] done"]
  assert cloud.count("create") == cloud.count("ssh start") == 2
  assert cloud.is_empty


def test_a_program_that_has_saved_and_left_is_started_again(cloud):
  """Status 143, while the TPU is still there."""
  cloud.program(
    'mkdir "$FAKE/saved-$WORKER" 2>/dev/null && exit 143; echo done'
  )
  status, out, err = cloud.launch()
  assert status == 0, err
  assert "the command was interrupted; starting it again" in err
  assert "[worker 1] done" in out
  assert (cloud.count("create"), cloud.count("ssh start")) == (1, 2)


def test_a_lost_connection_is_made_again(cloud):
  cloud.put("drop", "")
  cloud.program("echo begun; sleep 1; echo done")
  status, out, err = cloud.launch()
  assert status == 0, err
  assert "[worker 0] done" in out
  assert cloud.count("ssh start") == 1
  assert cloud.count("ssh follow") == 2


def test_a_mistake_is_told_and_not_tried_again(cloud):
  cloud.program("echo 'error: config.x is not a setting' >&2; exit 1")
  status, out, err = cloud.launch()
  assert status == 1
  assert "error: the command cannot go on: config.x is not a setting" in err
  assert "pod is still there, and costs" in err
  assert "delete: gcloud compute tpus queued-resources delete pod" in err
  assert cloud.count("ssh start") == 1
  assert cloud.count("delete") == 0
  cloud.program("echo mended")  # the same TPU, and not the old status
  status, out, err = cloud.launch()
  assert status == 0, err
  assert "[worker 0] mended" in out
  assert cloud.count("create") == 1


@pytest.mark.parametrize("ended", [134, 75])
def test_a_program_that_keeps_crashing_is_given_up(cloud, ended):
  """75: its hosts did not find each other, which may be another next time."""
  cloud.program(f"echo 'Fatal Python error'; exit {ended}")
  status, _, err = cloud.launch()
  assert status == 1
  assert (
    "error: the command crashed (Fatal Python error) (3 times in a row)" in err
  )
  assert cloud.count("ssh start") == 3


def test_a_request_that_fails_is_given_up(cloud):
  cloud.put("requests", "FAILED\nFAILED\n" * 9)
  status, _, err = cloud.launch()
  assert status == 1
  assert "has failed: no quota for this (3 times in a row)" in err
  assert cloud.count("create") == 3


# https://cloud.google.com/tpu/docs/reference/rest/v2/projects.locations.nodes
# and …/v2/projects.locations.queuedResources: every state, and what is done.
_NODE_STATES = {
  "STATE_UNSPECIFIED": "waits",
  "CREATING": "waits",
  "READY": "runs",
  "RESTARTING": "waits",
  "REIMAGING": "waits",
  "DELETING": "waits",
  "REPAIRING": "waits",
  "STOPPED": "stops",
  "STOPPING": "waits",
  "STARTING": "waits",
  "PREEMPTED": "is made again",
  "TERMINATED": "is made again",
  "HIDING": "waits",
  "HIDDEN": "stops",
  "UNHIDING": "waits",
  "UNKNOWN": "is made again",  # "after a failed repair"
}
_REQUEST_STATES = {
  "STATE_UNSPECIFIED": "waits",
  "CREATING": "waits",
  "ACCEPTED": "queues",
  "PROVISIONING": "waits",
  "FAILED": "is made again",
  "DELETING": "waits",
  "ACTIVE": "is made again",  # where its TPU does not come
  "SUSPENDING": "waits",
  "SUSPENDED": "is made again",
  "WAITING_FOR_RESOURCES": "queues",
}
_STATES = [("node", *pair) for pair in _NODE_STATES.items()]
_STATES += [("request", *pair) for pair in _REQUEST_STATES.items()]


@pytest.mark.parametrize("of, state, outcome", _STATES)
def test_in_every_state_something_is_done(cloud, of, state, outcome):
  """With no patience: what does not pass by itself is not waited for."""
  cloud.put(of, state)
  cloud.put("type", "v5p-16")
  if state == "READY":
    for worker in (0, 1):
      (cloud.folder / f"worker-{worker}").mkdir()
  if outcome == "queues":
    cloud.put("requests", f"{state}\n" * 4 + "ACTIVE\n")
  status, _, err = cloud.launch("--wait=0")
  assert status == (1 if outcome in ("waits", "stops") else 0), err
  if outcome in ("waits", "stops"):
    *_, told = (line for line in err.splitlines() if line.startswith("error:"))
    assert state in told and " or delete it" in told
    assert cloud.count("delete") == cloud.count("create") == 0
    assert "pod is still there" in err
  else:
    assert cloud.count("create") == (outcome == "is made again")


def test_the_states_are_those_that_the_script_names():
  text = (_LAUNCH / "tpu_vm.sh").read_text()
  named = re.findall(r"\b(node|request):([A-Z_]+)\b", text)
  assert sorted(named) == sorted((of, state) for of, state, _ in _STATES)


def test_the_states_are_those_that_gcloud_knows():
  gcloud = shutil.which("gcloud")
  if gcloud is None:
    pytest.skip("gcloud is not installed")
  root = pathlib.Path(gcloud).resolve().parents[1]
  (messages,) = root.rglob("apis/tpu/v2/tpu_v2_messages.py")
  known = {
    node.name: [
      value.targets[0].id
      for enum in node.body
      if getattr(enum, "name", None) == "StateValueValuesEnum"
      for value in enum.body
      if isinstance(value, ast.Assign)
    ]
    for node in ast.parse(messages.read_text()).body
    if isinstance(node, ast.ClassDef)
  }
  assert known["Node"] == list(_NODE_STATES)
  assert known["QueuedResourceState"] == list(_REQUEST_STATES)


def test_what_passes_by_itself_is_waited_for(cloud):
  """One state after the other, and one that is not documented yet."""
  waits = [s for s, done in _NODE_STATES.items() if done == "waits"]
  cloud.put("nodes", "\n".join([*waits, "THINKING", "READY", ""]))
  status, _, err = cloud.launch()
  assert status == 0, err
  told = re.findall("pod: ([A-Z_]+)$", err, re.MULTILINE)
  assert told[-len(waits) - 1 :] == [*waits, "THINKING"]
  assert cloud.count("create") == 1


def test_states_that_take_turns_are_no_progress(cloud):
  cloud.put("nodes", "REPAIRING\nRESTARTING\n" * 99)
  status, _, err = cloud.launch("--wait=0")
  assert status == 1
  assert "pod has not been ready for 0 minutes, and is REPAIRING" in err


def test_what_cannot_be_deleted_is_given_up(cloud):
  cloud.put("request", "SUSPENDED")
  cloud.put("undeletable", "PERMISSION_DENIED: not yours")
  status, _, err = cloud.launch()
  assert status == 1
  assert "pod cannot be deleted: ERROR: (gcloud) PERMISSION_DENIED" in err
  assert cloud.count("delete") == 3
  (cloud.folder / "undeletable").unlink()


def test_repairs_that_fail_again_and_again_are_given_up(cloud):
  cloud.put("nodes", "UNKNOWN\n" * 9)
  status, _, err = cloud.launch()
  assert status == 1
  assert "unknown state after a repair that failed (3 times in a row)" in err
  assert cloud.count("create") == 3


def test_workers_that_answer_no_more_are_given_up(cloud):
  """READY, but without ssh: the command may run on, so nothing is deleted."""
  cloud.put("drop", "")
  cloud.program('until [ -e "$FAKE/go" ]; do sleep 0.1; done')
  launcher = cloud.start(*_PLACE, "--wait=0", "--", *_STAGE)
  while cloud.count("ssh follow") == 0:
    assert launcher.poll() is None
    time.sleep(0.02)
  cloud.put("unreachable", "x\n" * 99)
  assert launcher.wait(timeout=100) == 1
  cloud.put("go", "")
  _, err = launcher.communicate(timeout=100)
  assert "error: pod is ready, but its workers have not answered ssh for" in err
  assert "the command may still run there" in err
  assert cloud.count("delete") == 0


def test_what_cannot_be_made_at_all_is_said(cloud):
  cloud.put("refusal", "PERMISSION_DENIED: ask your administrator")
  status, _, err = cloud.launch()
  assert status == 1
  assert err.splitlines()[-1] == (
    "error: pod cannot be made: ERROR: (gcloud) PERMISSION_DENIED: ask your"
    " administrator"
  )
  assert cloud.count("create") == 1


def test_who_may_not_look_is_told(cloud):
  cloud.put("denied", "PERMISSION_DENIED: no such project")
  status, _, err = cloud.launch()
  assert status == 1
  assert err.startswith("error: pod cannot be looked at: ERROR: (gcloud)")
  assert cloud.calls == ["describe"]


def test_a_setup_that_fails_is_no_success(cloud):
  """Not even where another command has succeeded before."""
  assert cloud.launch("--keep")[0] == 0
  other = ("s2d", "curate", *_STAGE[2:])
  status, _, err = cloud.run(
    *_PLACE, "--setup=echo no disk; exit 3", "--", *other
  )
  assert status == 1
  assert "no disk" in err
  assert "error: pod cannot be set up" in err
  assert cloud.count("ssh start") == 1


def test_workers_that_never_answer_are_given_up(cloud):
  cloud.put("unreachable", "x\n" * 99)
  status, _, err = cloud.launch()
  assert status == 1
  assert "the workers cannot be reached by ssh" in err
  assert cloud.count("ssh") == 3


def test_a_program_outlives_its_launcher(cloud):
  cloud.program('echo begun; until [ -e "$FAKE/go" ]; do sleep 0.1; done')
  first = cloud.start(*_PLACE, "--", *_STAGE)
  cloud.wait_for("[worker 0] begun", first)
  cloud.kill(first)
  second = cloud.start(*_PLACE, "--", *_STAGE)
  cloud.wait_for("[worker 1] begun", second)
  cloud.put("go", "")
  _, err = second.communicate(timeout=200)
  assert second.returncode == 0, err
  assert "the command runs on pod; its log goes on" in err
  assert cloud.count("create") == cloud.count("ssh start") == 1
  assert cloud.is_empty


def test_another_command_is_not_disturbed(cloud):
  cloud.program("echo begun; sleep 60")
  first = cloud.start(*_PLACE, "--", *_STAGE)
  cloud.wait_for("begun", first)
  cloud.kill(first)
  status, _, err = cloud.run(*_PLACE, "--", "python", "other.py")
  assert status == 1
  assert "error: another command runs on pod" in err


@pytest.fixture
def hears_ctrl_c():
  """What runs in the background ignores it, and so do all that it starts."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_ctrl_c_asks_whether_to_delete(cloud, hears_ctrl_c, answer):
  cloud.program('echo begun; until [ -e "$FAKE/go" ]; do sleep 0.1; done')
  launcher = cloud.start(*_PLACE, "--", *_STAGE)
  cloud.wait_for("begun", launcher)
  launcher.send_signal(signal.SIGINT)
  _, err = launcher.communicate(f"{answer}\n" if answer else "", timeout=200)
  assert launcher.returncode == 130
  assert "Delete it? [y/N]" in err
  assert cloud.is_empty == (answer == "y")
  if answer != "y":
    assert "pod is still there, and costs" in err
    cloud.put("go", "")
    status, _, err = cloud.launch()
    assert status == 0, err
    assert cloud.count("ssh start") == 1


def test_a_worker_that_is_left_alone_is_stopped(cloud):
  """One has left, and the other would wait for ever."""
  cloud.program(
    "echo begun; [ $WORKER = 1 ] && exit 143; trap 'exit 143' TERM;"
    " sleep 60 & wait"
  )
  first = cloud.start(*_PLACE, "--", *_STAGE)
  cloud.wait_for("[worker 0] begun", first)
  while not (cloud.folder / "worker-1" / "s2d" / "status").exists():
    assert first.poll() is None
    time.sleep(0.02)
  cloud.kill(first)
  cloud.program("echo done")
  status, out, err = cloud.launch()
  assert status == 0, err
  assert "stopping the workers that are left" in err
  assert sorted(out.splitlines()) == ["[worker 0] done", "[worker 1] done"]


def test_a_tpu_that_is_kept_is_used_again(cloud):
  assert cloud.launch("--keep")[0] == 0
  assert not cloud.is_empty
  other = ("s2d", "curate", *_STAGE[2:])
  status, out, err = cloud.run(*_PLACE, "--", *other)
  assert status == 0, err
  assert "[worker 0] 0 says curate" in out
  assert cloud.count("create") == 1
  assert cloud.is_empty


def test_a_tpu_made_by_hand_is_used(cloud):
  for worker in (0, 1):
    (cloud.folder / f"worker-{worker}").mkdir()
  cloud.put("node", "READY")
  cloud.put("type", "v5p-16")
  status, _, err = cloud.launch()
  assert status == 0, err
  assert cloud.count("create") == cloud.count("delete") == 0
  assert "pod is still there, and costs" in err


def test_a_tpu_of_another_type_is_left_alone(cloud):
  cloud.put("node", "READY")
  cloud.put("type", "v6e-8")
  status, _, err = cloud.launch()
  assert status == 1
  assert "error: pod is there and is a v6e-8, not a v5p-16" in err


def test_secrets_reach_the_program_and_nobody_else(cloud):
  cloud.program("echo ${#HF_TOKEN}")
  secret = "hf_it's a secret"
  flags = (*_PLACE, "--env=HF_TOKEN", "--setup=echo ready >>$FAKE/set-up")
  status, out, err = cloud.run(*flags, "--", *_STAGE, HF_TOKEN=secret)
  assert status == 0, err
  assert f"[worker 0] {len(secret)}" in out
  assert (cloud.folder / "set-up").read_text() == "ready\n" * 2
  assert "secret" not in out + err + (cloud.folder / "calls").read_text()


@pytest.mark.parametrize(
  "arguments, sentence",
  [
    ((*_PLACE[1:], "--", *_STAGE), "give --name="),
    ((*_PLACE, "--name=Pod", "--", *_STAGE), "--name=Pod: only a-z"),
    ((*_PLACE, "--nmae=x", "--", *_STAGE), "--nmae=x is not a flag"),
    ((*_PLACE, "--name", "x", "--", *_STAGE), "--name is not a flag"),
    ((*_PLACE, "--type=v5e-16", "--", *_STAGE), "calls it v5litepod-16"),
    ((*_PLACE, "--type=h100-8", "--", *_STAGE), "is not of v4-N"),
    ((*_PLACE, "--spot", "--reserved", "--", *_STAGE), "exclude each other"),
    ((*_PLACE, "--env=NOT_THERE", "--", *_STAGE), "NOT_THERE is not set here"),
    ((*_PLACE, "--env=A=b", "--", *_STAGE), "--env=A=b is not a name"),
    ((*_PLACE, "--wait=1h", "--", *_STAGE), "--wait=1h must be a number"),
    ((*_PLACE, "--ref=nowhere", "--", *_STAGE), "has no such commit"),
    (_PLACE, "say what to run behind a lone --"),
    ((*_PLACE, "--", "s2d", "plan"), "s2d plan is not for all hosts"),
    ((*_PLACE, "--", *_STAGE, "--workdir=runs/a"), "--workdir=runs/a must be"),
    ((*_PLACE, "--", *_STAGE[:2], _STAGE[3]), "give --config=FILE"),
    (
      (*_PLACE, "--", *_STAGE, "--config=configs/mine.py:x"),
      "--config=configs/mine.py is not in commit",
    ),
  ],
)
def test_a_wrong_flag_is_one_sentence(cloud, arguments, sentence):
  status, out, err = cloud.run(*arguments)
  assert status == 1 and not out
  assert sentence in err
  assert err.startswith("error: ") and err.count("\n") == 1
  assert cloud.calls == []


def test_help_names_every_flag(cloud):
  status, out, _ = cloud.run("--help")
  assert status == 0
  text = (_LAUNCH / "tpu_vm.sh").read_text()
  parser = text[text.index("parse() {") : text.index("set_tier() {")]
  for flag in set(re.findall(r"--[a-z-]+", parser)):
    assert flag in out


def _dry_run(cloud, *more: str) -> list[str]:
  status, out, err = cloud.run(
    *_PLACE, "--dry-run", *more, "--", *_STAGE, TMPDIR="/tmp"
  )
  assert status == 0 and not err
  return [line for line in out.splitlines() if line.startswith("gcloud")]


def test_a_dry_run_calls_nothing(cloud, tmp_path):
  temporary = tmp_path / "tmp"
  temporary.mkdir()
  status, out, _ = cloud.run(
    *_PLACE, "--dry-run", "--", *_STAGE, TMPDIR=str(temporary)
  )
  assert status == 0
  assert "--multihost" in out
  assert cloud.calls == [] and cloud.is_empty
  assert list(temporary.iterdir()) == []


def test_a_dry_run_prints_every_call(cloud):
  """Whatever is called when all goes well, in the same words."""
  printed = {tuple(shlex.split(line)[1:]) for line in _dry_run(cloud)}
  assert cloud.launch()[0] == 0
  for line in (cloud.folder / "calls").read_text().splitlines():
    called = [
      "/tmp/s2d-job.tar" if word.endswith("/s2d-job.tar") else word
      for word in shlex.split(line)
    ]
    assert tuple(called) in printed


@pytest.mark.parametrize(
  "accelerator, runtime",
  [
    ("v4-32", "tpu-ubuntu2204-base"),
    ("v5litepod-16", "v2-alpha-tpuv5-lite"),
    ("v5p-128", "v2-alpha-tpuv5"),
    ("v6e-64", "v2-alpha-tpuv6e"),
  ],
)
def test_the_software_suits_the_type(cloud, accelerator, runtime):
  (line,) = (
    line
    for line in _dry_run(cloud, f"--type={accelerator}")
    if " create " in line
  )
  assert f"--runtime-version={runtime}" in shlex.split(line)
  (line,) = (
    line for line in _dry_run(cloud, "--runtime=mine") if " create " in line
  )
  assert "--runtime-version=mine" in shlex.split(line)


def _documented() -> list[str]:
  """The commands of docs/tpu.md that need a cloud."""
  text = (_ROOT / "docs" / "tpu.md").read_text()
  blocks = re.findall(
    r"^```sh cloud\n(.*?)^```", text, re.DOTALL | re.MULTILINE
  )
  text = "".join(blocks).replace("\\\n", " ")
  return text.replace("PROJECT", "a-project").splitlines()


def test_gcloud_knows_every_call(cloud, tmp_path):
  if shutil.which("gcloud") is None:
    pytest.skip("gcloud is not installed")
  variants = ("--spot", "--reserved", "--create-flag=--internal-ips")
  lines = {line for flag in variants for line in _dry_run(cloud, flag)}
  lines |= {line for line in _documented() if line.startswith("gcloud ")}
  file = tmp_path / "commands.json"
  file.write_text(json.dumps([{"command_string": line} for line in lines]))
  done = subprocess.run(
    ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"],
    capture_output=True,
    text=True,
    env=os.environ | {"CLOUDSDK_CONFIG": str(tmp_path / "gcloud")},
  )
  found = json.loads(done.stdout)
  assert len(found) == len(lines)
  assert [f["error_message"] for f in found if not f["success"]] == []
  assert done.returncode == 0


def test_the_launches_of_the_document_are_understood():
  programs = {"launch/tpu_vm.sh", "python"}
  seen = set()
  for line in _documented():
    words = shlex.split(line.partition(" > ")[0])
    if words[0] in programs:
      seen.add(words[0])
      if words[0] == "python":
        words = [sys.executable, *words[1:]]
      else:
        words = ["bash", words[0], "--dry-run", *words[1:]]
      done = subprocess.run(
        words,
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
      )
      assert done.returncode == 0, done.stderr
  assert seen == programs


def test_the_stages_are_those_that_know_of_several_hosts():
  text = (_LAUNCH / "tpu_vm.sh").read_text()
  listed = re.search(r"^stages='(.*)'$", text, re.MULTILINE)[1].split()
  stages = pathlib.Path(inspect.getfile(cli)).with_name("stages")
  several = [
    name
    for name in cli._STAGES
    if "  program.main(" in (stages / f"{name}.py").read_text()
  ]
  assert sorted(listed) == sorted(several)


def test_the_scripts_are_clean():
  shellcheck = shutil.which("shellcheck") or shutil.which(
    "shellcheck", path=str(pathlib.Path(sys.executable).parent)
  )
  if shellcheck is None:
    pytest.skip("shellcheck is not installed")
  scripts = [*_LAUNCH.rglob("*.sh"), _GCLOUD]
  assert len(scripts) >= 3
  done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout

"""A cloud of files: what `gcloud` does for launch/tpu_vm.sh, on this machine.

A folder, $FAKE, holds the cloud:

  node, request    the state of the TPU VM and of its queued resource
  requests         states that new requests will have, one at a look
  worker-N         the home of a worker, where its commands are really run
  calls            a line a call, as JSON
  refusal          what `create` fails with
  unreachable      as many ssh calls as it has lines fail
  drop             the next log that is followed breaks off after a moment
"""

from __future__ import annotations

from collections.abc import Sequence
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

_CLOUD = pathlib.Path(os.environ["FAKE"])
_WORKERS = (0, 1)


def _read(name: str) -> str | None:
  path = _CLOUD / name
  return path.read_text().strip() if path.exists() else None


def _write(name: str, text: str | None) -> None:
  if text is None:
    (_CLOUD / name).unlink(missing_ok=True)
  else:
    (_CLOUD / name).write_text(text)


def _pop(name: str) -> str | None:
  """The first line of a file, which is taken out of it."""
  first, *rest = (_read(name) or "").splitlines() or [None]
  _write(name, "\n".join(rest) or None)
  return first


def _fail(sentence: str) -> None:
  print(f"ERROR: (gcloud) {sentence}", file=sys.stderr)
  sys.exit(1)


def describe(kind: str) -> None:
  if kind == "queued-resources" and _read("request"):
    following = _pop("requests")
    if following:
      _write("request", following)
      if following == "ACTIVE":
        _make_node()
  state = _read("node" if kind == "tpu-vm" else "request")
  if state is None:
    _fail("NOT_FOUND: Resource was not found")
  if "failedData" in sys.argv[-4]:
    print("no quota for this")
  else:
    print(f"{state}\t{_read('type')}" if kind == "tpu-vm" else state)


def create(flags: dict[str, str]) -> None:
  if _read("refusal"):
    _fail(_read("refusal"))
  if _read("request") or _read("node"):
    _fail("ALREADY_EXISTS")
  _write("type", flags["accelerator-type"])
  _write("request", "WAITING_FOR_RESOURCES")
  if _read("requests") is None:
    _write("requests", "PROVISIONING\nACTIVE")


def _make_node() -> None:
  for worker in _WORKERS:
    (_CLOUD / f"worker-{worker}").mkdir()
  _write("node", "READY")


def delete(kind: str) -> None:
  if kind == "tpu-vm" and _read("request"):
    _fail("a queued resource holds it")
  for pid in _CLOUD.glob("worker-*/s2d/pid"):
    try:
      os.killpg(int(pid.read_text()), signal.SIGKILL)
    except ProcessLookupError:
      pass
  for worker in _CLOUD.glob("worker-*"):
    shutil.rmtree(worker)
  _write("node", None)
  _write("request", None)


def scp(source: str) -> None:
  for worker in _WORKERS:
    shutil.copy(source, _CLOUD / f"worker-{worker}")


def ssh(command: str) -> None:
  if _read("node") != "READY" or _pop("unreachable"):
    _fail("ssh: connect to host 10.0.0.1 port 22: Connection timed out")
  running = [
    subprocess.Popen(
      ["bash", "-c", command],
      cwd=_CLOUD / f"worker-{worker}",
      env=os.environ
      | {"HOME": str(_CLOUD / f"worker-{worker}"), "WORKER": str(worker)},
    )
    for worker in _WORKERS
  ]
  if "follow" in command and (_CLOUD / "drop").exists():
    _write("drop", None)
    time.sleep(0.3)
    for process in running:
      process.kill()
    sys.exit(255)
  sys.exit(max(process.wait() for process in running))


def main(arguments: Sequence[str]) -> None:
  with (_CLOUD / "calls").open("a") as calls:
    calls.write(json.dumps(arguments) + "\n")
  words = [word for word in arguments if not word.startswith("--")]
  flags = dict(word[2:].partition("=")[::2] for word in arguments[4:])
  _, _, kind, verb, *rest = words
  if verb == "describe":
    describe(kind)
  elif verb == "create":
    create(flags)
  elif verb == "delete":
    delete(kind)
  elif verb == "scp":
    scp(rest[0])
  else:
    ssh(flags["command"])


if __name__ == "__main__":
  main(sys.argv[1:])

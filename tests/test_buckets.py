from __future__ import annotations

import io
import itertools
import json
import logging
import os
import pathlib
import re
import subprocess
import sys
import types

import aiohttp
from etils import epath
from etils.epath import backend
import fsspec
from fsspec.asyn import AsyncFileSystem
from google.auth.exceptions import TransportError
import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint._src.path import gcs_utils
import pytest

from s2d_jax import bucket_client, buckets, records
from s2d_jax.checkpoints import damage, train_state
from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.parallel.mesh import make_mesh, replicated
from s2d_jax.stages import program
from s2d_jax.tasks.example_files import ExampleFiles
from s2d_jax.tasks.task import Example
from tests.faulty_proxy import Fault

_ROOT = pathlib.Path(__file__).parents[1]
_PATH = epath.Path("gs://bucket/run/config.json")
_DENIED = "me@here does not have storage.objects.list access to the bucket."


class HttpError(Exception):
  """As gcsfs has one; it is of no class that one could name beforehand."""


def _fails_with(error: Exception, patch: pytest.MonkeyPatch) -> None:
  """Has all that is asked of a bucket end in `error`, in another thread."""

  class Bucket(AsyncFileSystem):
    protocol = "gs"
    cachable = False

    async def _info(self, path, **options):
      raise error

    async def _cat_file(self, path, **options):
      raise error

  patch.setattr(
    backend._FileSystemSpecBackend,
    "_get_filesystem",
    lambda self, name: Bucket(),
  )


@pytest.mark.parametrize(
  "error, reason",
  [
    (HttpError("Anonymous caller, 401"), "Anonymous caller, 401"),
    (OSError(f"Forbidden: b/o\n{_DENIED}"), f"Forbidden: b/o {_DENIED}"),
    (OSError(101, "Network is unreachable"), "Network is unreachable"),
    (TimeoutError(), "TimeoutError"),
  ],
)
def test_what_a_bucket_refuses_is_one_sentence(monkeypatch, error, reason):
  _fails_with(error, monkeypatch)
  with pytest.raises(UserError) as told, buckets.mistakes():
    _PATH.exists()
  assert str(told.value).startswith(f"{_PATH} cannot be used (")
  assert reason in str(told.value) and "\n" not in str(told.value)


def test_the_path_is_the_one_that_failed(monkeypatch):
  """Not another one that the programs above have at hand."""
  _fails_with(TimeoutError(), monkeypatch)

  def stage(workdir: epath.Path) -> None:
    (workdir / "samples").exists()

  with pytest.raises(UserError, match="^gs://bucket/run/samples cannot"):
    with buckets.mistakes():
      stage(epath.Path("gs://bucket/run"))


def test_a_workdir_that_may_only_be_read_is_one_sentence(monkeypatch):
  _fails_with(FileNotFoundError(_PATH), monkeypatch)  # nothing is there yet

  def write(*unused, **options):
    raise OSError(f"Forbidden: b/o\n{_DENIED}")

  monkeypatch.setattr(records, "write_text", write)
  with pytest.raises(UserError) as told:
    program.claim_workdir(default(), _PATH.parent)
  assert str(told.value) == (
    f"gs://bucket/run cannot be written (Forbidden: b/o {_DENIED}); choose"
    " another --workdir"
  )


def test_other_errors_pass(monkeypatch, tmp_path):
  with pytest.raises(FileNotFoundError), buckets.mistakes():
    (epath.Path(tmp_path) / "missing").read_text()

  def stage(workdir: epath.Path) -> None:
    json.loads(workdir.name)  # a mistake of ours, with a bucket at hand

  with pytest.raises(ValueError), buckets.mistakes():
    stage(_PATH)
  _fails_with(UserError("this is why"), monkeypatch)
  with pytest.raises(UserError, match="^this is why$"), buckets.mistakes():
    _PATH.exists()


def test_what_tensorstore_says_is_one_sentence():
  """As it has said it, of a checkpoint that might not be read."""
  said = (
    'PERMISSION_DENIED: Error opening "zarr" driver: Error reading'
    ' "embed/.zarray" in OCDBT database at gs://b/run/checkpoints/2/params/:'
    f" Error reading gs://b/run/checkpoints/2/params/manifest.ocdbt: {_DENIED}"
    " [http_response_code='403'] [tensorstore_spec='{}']"
  )
  with pytest.raises(UserError) as told, buckets.mistakes():
    raise ValueError(said)
  assert str(told.value).startswith("gs://b/run/checkpoints/2/params/ cannot")
  assert f"{_DENIED}); check" in str(told.value)
  # As it has said it after a quarter of an hour.
  said = (
    "ABORTED: Error reading gs://b/run/manifest.ocdbt: All 32 retry attempts"
    " failed: Service Unavailable"
  )
  with pytest.raises(UserError) as told, buckets.mistakes():
    raise ValueError(said)
  assert str(told.value).startswith("gs://b/run/manifest.ocdbt cannot be used")
  assert f"({said}); check" in str(told.value)
  cut = "DATA_LOSS: Error reading gs://b/run/checkpoints/2/params/d/0"
  with pytest.raises(ValueError, match=cut), buckets.mistakes():
    raise ValueError(cut)


def test_only_the_stack_trace_of_a_bucket_is_not_logged(caplog):
  logger = logging.getLogger("absl")
  buckets.be_quiet()
  try:
    for said in ("UNAVAILABLE: Error reading gs://b/run/2", "another"):
      try:
        raise ValueError(said)
      except ValueError:
        logger.exception("the thread ended")
    logger.error("no error at all")
  finally:
    logger.removeFilter(buckets._is_news)
    for name in ("gcsfs", "fsspec"):
      logging.getLogger(name).setLevel(logging.NOTSET)
  logged = [record for record in caplog.records if record.name == "absl"]
  assert [bool(record.exc_info) for record in logged] == [True, False]


_ERROR = json.dumps({"error": {"code": 403, "message": _DENIED}})


def _status(path: epath.Path, **environ: str) -> str:
  """What `s2d status` says of a folder, as an error."""
  ended = subprocess.run(
    [sys.executable, "-m", "s2d_jax.cli", "status", f"--workdir={path}"],
    env=os.environ | environ,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert ended.returncode == 1
  assert ended.stderr.count("\n") == 1
  return ended.stderr


def test_a_program_ends_with_the_sentence_alone(bucket):
  bucket.server.faults = lambda *_: Fault(status=403, text=_ERROR)
  said = _status(bucket.path / "run", PYTHONPATH=str(_ROOT))
  assert said.startswith(f"error: {bucket.path}/run cannot be used (Forbidden")
  assert _DENIED in said


def test_a_client_that_is_not_installed_is_one_sentence(tmp_path):
  (tmp_path / "gcsfs.py").write_text("raise ImportError")
  said = _status(_PATH.parent, PYTHONPATH=f"{tmp_path}:{_ROOT}")
  assert said.startswith("error: gs://bucket/run needs a package that is not")
  assert "pip install 'etils[epath-gcs]'" in said


# A bucket of a server.


@pytest.fixture
def client(bucket, monkeypatch) -> bucket_client.BucketClient:
  """That of this process, which notes its pauses instead of making them."""
  client = fsspec.filesystem("gcs", finalize_on_close=True)
  client._has_answered = True
  client.pauses = []

  async def pause(seconds: float) -> None:
    client.pauses.append(seconds)

  monkeypatch.setattr(bucket_client, "_sleep", pause)
  return client


@pytest.mark.parametrize("status", [401, 403])
def test_gcsfs_itself_is_understood(bucket, client, status):
  error = json.dumps({"error": {"code": status, "message": _DENIED}})
  bucket.server.faults = lambda *_: Fault(status=status, text=error)
  path = bucket.path / "config.json"
  with pytest.raises(UserError) as told, buckets.mistakes():
    path.exists()
  assert str(told.value).startswith(f"{path} cannot be used (")
  assert _DENIED in str(told.value)
  assert not client.pauses


def test_who_may_only_use_objects_may_not_use_orbax(bucket):
  """It asks of what kind the bucket is once there is a checkpoint in it."""
  gcs_utils.get_bucket.cache_clear()
  bucket.server.faults = lambda method, path: (
    Fault(status=403, text=_ERROR)
    if path.startswith(f"/storage/v1/b/{bucket.path.name}?")
    else None
  )
  with pytest.raises(UserError, match=_DENIED) as told, buckets.mistakes():
    for step in (1, 2):
      with train_state.open_manager(bucket.path / "checkpoints") as manager:
        train_state.save(manager, _state(step), {}, valid_loss=1.0)
  assert str(told.value).startswith(f"{bucket.path}/checkpoints cannot be")


def test_files_are_as_on_a_disk(bucket, tmp_path):
  """The same calls leave the same names and bytes."""
  for folder in (bucket.path, epath.Path(tmp_path)):
    path = folder / "samples" / "s2a" / "part.jsonl"
    assert not path.exists() and not list(folder.glob("samples/*/part*"))
    records.write(path, [{"n": number} for number in range(3)])
    records.write(path, ({"n": number, "ü": "\n"} for number in range(2)))
    with pytest.raises(ZeroDivisionError):
      records.write(path, ({"n": 1 // (1 - number)} for number in range(3)))
    assert [record["n"] for record in records.read(path)] == [0, 1]
    records.write_text(folder / "done" / "sample.json", "{}\n")
    assert records.read_json(folder / "done" / "sample.json", "") == {}
    path.with_name("half.jsonl").write_bytes(b'{"n": 1}\n{"n"')
    records.drop_partial_line(path.with_name("half.jsonl"))
    records.write(folder / "eval" / "base" / "part.jsonl", [{}])
    (folder / "eval" / "base").rmtree()
    path.replace(path.with_name("whole.jsonl"))
    assert not path.exists()
    found = buckets.files(folder)
    assert [str(each.relative_to(folder)) for each in found] == [
      "done/sample.json",
      "samples/s2a/half.jsonl",
      "samples/s2a/whole.jsonl",
    ]
    assert found == sorted(found) and found[0].read_text() == "{}\n"
  there = {
    path.relative_to(tmp_path).as_posix(): path.read_bytes()
    for path in tmp_path.rglob("*")
    if path.is_file()
  }
  assert bucket.files() == there


def test_lines_are_read_by_the_megabyte(bucket):
  """Which takes a thousandth of the time of a file without a buffer."""
  path = bucket.path / "part.jsonl"
  records.write(path, ({"n": number} for number in range(9999)))
  bucket.server.requests.clear()
  assert [r["n"] for r in records.read(path)] == list(range(9999))
  assert len(bucket.server.requests) < 9
  with path.open("rb") as file:
    assert isinstance(file, io.BufferedReader)
    file.seek(-11, io.SEEK_END)
    assert file.read() == b'{"n":9998}\n' and file.tell() == path.stat().length
  assert path.read_text().count("\n") == 9999


def test_lines_that_are_not_in_order_are_read_by_the_block(bucket, monkeypatch):
  """In four places by turns, as the waves of an example's samples lie."""
  monkeypatch.setattr(bucket_client, "_BLOCK", 1 << 12)
  monkeypatch.setattr(bucket_client, "_BUFFER", 1 << 8)
  path = bucket.path / "part.jsonl"
  records.write(path, ({"n": 10_000 + number} for number in range(8000)))
  bucket.server.requests.clear()
  line = len('{"n":10000}\n')
  with path.open("rb") as file:
    for number in range(2000):
      for wave in range(4):
        file.seek((2000 * wave + number) * line)
        assert b":%d}" % (10_000 + 2000 * wave + number) in file.read(line)
  blocks = 8000 * line / (1 << 12)
  assert len(bucket.server.requests) < blocks + 9


def test_examples_are_read_by_the_block_as_they_are_dealt(bucket, monkeypatch):
  """Of several hosts each begins some examples here, some there, in order."""
  monkeypatch.setattr(bucket_client, "_BLOCK", 1 << 12)
  monkeypatch.setattr(bucket_client, "_BUFFER", 1 << 8)
  path = bucket.path / "train.jsonl"
  made = [Example(f"{number:05d}", "custom", {}) for number in range(2000)]
  records.write(path, (example.to_record() for example in made))
  examples = ExampleFiles(path)
  bucket.server.requests.clear()
  dealt = [n for n in range(2000) if n // 100 % 2 or n > 1900 and n % 7]
  assert [examples[n].id for n in dealt] == [made[n].id for n in dealt]
  assert len(bucket.server.requests) < path.stat().length / (1 << 12) + 9


def test_what_other_hosts_write_is_seen(bucket, tmp_path):
  """Not what was there when this process last looked."""
  part, other = bucket.path / "part-0.jsonl", bucket.path / "part-1.jsonl"
  records.write(part, [{"n": 0}])
  assert list(bucket.path.glob("part-*")) == list(bucket.path.iterdir())
  assert not other.exists() and part.stat().length == 8
  (tmp_path / "part-0.jsonl").write_text('{"n":0}\n{"n":1}\n')
  (tmp_path / "part-1.jsonl").touch()
  bucket.fill(tmp_path)
  assert list(records.read(part)) == [{"n": 0}, {"n": 1}]
  assert part.stat().length == 16 and other.exists()
  assert list(bucket.path.glob("part-*")) == [part, other]
  assert sorted(bucket.path.iterdir()) == [part, other]


def test_a_part_grows_by_one_upload(bucket):
  """Of two requests, which docs/architecture.md counts as one operation."""
  part = records.Appender(bucket.path / "part.jsonl")
  lines = b""
  for number in range(3):
    bucket.server.requests.clear()
    part.append({"n": number})
    part.flush()
    lines += b'{"n":%d}\n' % number
    assert [method for method, _ in bucket.server.requests] == ["POST", "POST"]
    assert bucket.files() == {"part.jsonl": lines}
  part.append({"n": 3})  # killed
  with records.Appender(bucket.path / "part.jsonl") as part:
    assert [record["n"] for record in part.recovered] == [0, 1, 2]
    part.append({"n": 4})
  assert bucket.files() == {"part.jsonl": lines + b'{"n":4}\n'}


def test_a_large_part_is_uploaded_more_rarely(bucket, monkeypatch):
  """Uploads that take ten seconds take a tenth of the time."""
  now, uploads = [0.0], []

  def upload(path, text: str) -> None:
    now[0] += 10.0
    uploads.append(now[0])

  monkeypatch.setattr(records, "write_text", upload)
  clock = types.SimpleNamespace(monotonic=lambda: now[0])
  monkeypatch.setattr(records, "time", clock)
  with records.Appender(bucket.path / "part.jsonl") as part:
    while now[0] < 1000.0:
      now[0] += 1.0
      part.append({"n": now[0]})
  assert uploads[:3] == [31.0, 132.0, 233.0]
  assert len(uploads) == 11


_KINDS = [
  *(Fault(status=status) for status in (408, 429, 500, 502, 503, 504)),
  Fault(drops=True),
  Fault(cuts=True),
]


@pytest.mark.parametrize("fault", _KINDS, ids=str)
def test_each_request_may_fail(bucket, client, fault):
  """The first try of each kind of request; all is done, and done once."""
  failed = set()

  def first(method: str, path: str) -> Fault | None:
    kind = method, re.sub("upload_id=.*", "", path)
    if kind in failed:
      return None
    failed.add(kind)
    return fault

  bucket.server.faults = first
  path = bucket.path / "parts" / "part.jsonl"
  for number in range(2):
    records.write(path, [{"n": number}] * 1000)
  records.write_text(bucket.path / "config.json", "{}")
  assert [record["n"] for record in records.read(path)] == [1] * 1000
  records.write(bucket.path / "old" / "part.jsonl", [{}])
  (bucket.path / "old").rmtree()
  (bucket.path / "config.json").unlink()
  # `failed` has what is the same in each part of the server's protocol.
  assert {method for method, _ in failed} == {"GET", "POST", "DELETE"}
  assert bucket.files() == {"parts/part.jsonl": b'{"n":1}\n' * 1000}


def test_it_is_asked_again_more_and_more_rarely(bucket, client, capsys):
  left = iter(range(8))
  bucket.server.faults = lambda *_: (
    Fault(status=503) if next(left, None) is not None else None
  )
  records.write_text(bucket.path / "config.json", "{}")
  assert bucket.files() == {"config.json": b"{}"}
  waits = [2.0**attempt for attempt in range(6)] + [32.0] * 2
  assert len(client.pauses) == len(waits)
  for pause, most in zip(client.pauses, waits, strict=True):
    assert most / 2 <= pause <= most
  assert capsys.readouterr().err == (
    "the bucket does not answer (try again, 503); it is asked again for 10"
    " minutes\n"
  )


def test_a_silent_server_is_asked_again(bucket, client, monkeypatch):
  silence = aiohttp.ClientTimeout(total=None, sock_read=0.2)
  monkeypatch.setattr(client, "requests_timeout", silence)
  slow = iter([Fault(seconds=0.6)])
  bucket.server.faults = lambda *_: next(slow, None)
  records.write_text(bucket.path / "config.json", "{}")
  assert len(client.pauses) == 1
  assert bucket.files() == {"config.json": b"{}"}


def test_signing_in_is_tried_again(bucket, client, monkeypatch):
  """A token is renewed every hour, and by another server."""
  failing = iter([TransportError("no route"), TimeoutError()])

  def apply(headers):
    for error in failing:
      raise error

  monkeypatch.setattr(client.credentials, "apply", apply)
  records.write_text(bucket.path / "config.json", "{}")
  assert len(client.pauses) == 2
  assert bucket.files() == {"config.json": b"{}"}


@pytest.mark.parametrize("has_answered", [False, True])
def test_a_bucket_that_stays_away_is_one_sentence(
  bucket, client, monkeypatch, capsys, has_answered
):
  """Within half a minute, or ten where it was there before."""
  path = bucket.path / "part.jsonl"
  with records.Appender(path) as part:
    part.append({"n": 0})
  client._has_answered = has_answered
  now = iter(range(0, 10**6, 3))
  monkeypatch.setattr(bucket_client, "_now", lambda: next(now))
  bucket.server.faults = lambda *_: Fault(status=503, text="Backend Error")
  with pytest.raises(UserError) as told, buckets.mistakes():
    records.write_text(path, "")
  assert str(told.value).startswith(f"{path} cannot be used (Backend Error")
  assert len(client.pauses) == (600 if has_answered else 30) // 3
  assert ("for 10 minutes" in capsys.readouterr().err) == has_answered
  bucket.server.faults = None
  with records.Appender(path) as part:
    assert part.recovered == [{"n": 0}]


def _state(step: int) -> train_state.TrainState:
  count = jnp.int32(step)
  return train_state.TrainState(count, {"w": jnp.full(9, step)}, {"m": count})


def test_a_checkpoint_outlives_what_fails(bucket, client):
  """Every sixth request of TensorStore, gcsfs and Google's own client."""
  numbers = itertools.count(1)
  faults = itertools.cycle(
    [Fault(status=503), Fault(status=429), Fault(drops=True), Fault(cuts=True)]
  )
  bucket.server.faults = lambda *_: (
    next(faults) if next(numbers) % 40 == 0 else None
  )
  directory = bucket.path / "checkpoints"
  with train_state.open_manager(directory) as manager:
    for step, loss in {1: 2.0, 2: 1.0, 3: 3.0}.items():
      train_state.save(manager, _state(step), {"at": step}, loss)
    shapes = jax.eval_shape(lambda: _state(3))
    placed = train_state.with_shardings(
      shapes, jax.tree.map(lambda _: replicated(make_mesh()), shapes)
    )
    found, position = train_state.restore_latest(manager, placed)
    assert sorted(manager.all_steps()) == [2, 3]
  jax.tree.map(np.testing.assert_array_equal, found, _state(3))
  assert position == {"at": 3}
  assert next(numbers) > 10 * 40 and client.pauses
  damage.set_aside(directory)
  there = {name.partition("/")[0] for name in bucket.files(directory)}
  assert there == {"2", "3"}

from __future__ import annotations

from collections.abc import Iterator
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

from etils import epath
from etils.epath import backend
from fsspec.asyn import AsyncFileSystem
import pytest

from s2d_jax import buckets, records
from s2d_jax.config import default
from s2d_jax.errors import UserError
from s2d_jax.stages import program

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


_REFUSES = """
import logging
import fsspec

class GCSFileSystem(fsspec.AbstractFileSystem):
  protocol = "gs"

  def exists(self, path, **options):
    try:
      raise RuntimeError("Anonymous caller, 401")
    except RuntimeError:
      logging.getLogger("gcsfs").exception("out of retries")
      raise
"""


@pytest.mark.parametrize(
  "gcsfs, said",
  [
    ("raise ImportError", "pip install 'etils[epath-gcs]'"),
    (_REFUSES, "gs://bucket/run cannot be used (Anonymous caller, 401)"),
  ],
)
def test_a_program_ends_with_the_sentence_alone(tmp_path, gcsfs, said):
  (tmp_path / "gcsfs.py").write_text(gcsfs)
  ended = subprocess.run(
    [
      sys.executable,
      "-m",
      "s2d_jax.cli",
      "status",
      "--workdir=gs://bucket/run",
    ],
    env=os.environ | {"PYTHONPATH": f"{tmp_path}:{_ROOT}"},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert ended.returncode == 1
  assert ended.stderr.startswith("error: gs://bucket/run ")
  assert said in ended.stderr and ended.stderr.count("\n") == 1


@pytest.fixture
def refusing(request, monkeypatch) -> Iterator[None]:
  """Google's storage, as far as it answers with the status in `param`."""
  gcsfs = pytest.importorskip("gcsfs")

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
      error = {"error": {"code": request.param, "message": _DENIED}}
      self.send_response(request.param)
      self.end_headers()
      self.wfile.write(json.dumps(error).encode())

    def log_message(self, *unused) -> None:
      pass

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  monkeypatch.setenv(
    "STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}"
  )
  monkeypatch.setenv("NO_GCE_CHECK", "true")  # which waits for an answer
  # Each test has another server, which is asked anew.
  monkeypatch.setattr(
    backend._FileSystemSpecBackend,
    "_get_filesystem",
    lambda self, name: gcsfs.GCSFileSystem(skip_instance_cache=True),
  )
  yield
  server.shutdown()
  server.server_close()


@pytest.mark.parametrize("refusing", [401, 403], indirect=True)
def test_gcsfs_itself_is_understood(refusing):
  with pytest.raises(UserError) as told, buckets.mistakes():
    _PATH.exists()
  assert str(told.value).startswith(f"{_PATH} cannot be used (")
  assert _DENIED in str(told.value)

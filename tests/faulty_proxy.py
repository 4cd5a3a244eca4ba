"""A proxy between a client and its server that fails as networks do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import http.client
import http.server
import socket
import threading
import time
from typing import Any, NamedTuple


@dataclasses.dataclass(frozen=True)
class Fault:
  """What becomes of a request, which by itself is done and answered.

  Attributes:
    status: it is not done, and answered with this; 0: it is done.
    seconds: all this is so much later.
    drops: what is answered never arrives: the connection is closed.
    cuts: half of it arrives.
    text: of an answer with `status`.
  """

  status: int = 0
  seconds: float = 0.0
  drops: bool = False
  cuts: bool = False
  text: str = "try again"


# From the method and the path of a request to what becomes of it.
Faults = Callable[[str, str], Fault | None]


class Reply(NamedTuple):
  """What a server answers."""

  status: int
  headers: list[tuple[str, str]]
  content: bytes


# From method, path, headers and body of a request to the answer.
Ask = Callable[[str, str, Mapping[str, str], bytes], Reply]


class Proxy:
  """Passes requests on; `faults` says which of them fail.

  Attributes:
    url: where it listens.
    requests: methods and paths of all requests so far.
    faults: may be changed at any time.
  """

  def __init__(self):
    self.requests: list[tuple[str, str]] = []
    self.faults: Faults | None = None
    proxy = self

    class Handler(_Handler):
      server_address: tuple[str, int] | None = None

      def fault(self) -> Fault | None:
        proxy.requests.append((self.command, self.path))
        return proxy.faults and proxy.faults(self.command, self.path)

      def reply(self, body: bytes) -> Reply:
        headers = dict(self.headers)
        return proxy.reply(self.ask, self.command, self.path, headers, body)

    self._handler = Handler
    self._server = _Server(("127.0.0.1", 0), Handler)
    self.url = f"http://127.0.0.1:{self._server.server_port}"
    # It looks every so many seconds whether it is to end.
    listen = {"poll_interval": 0.05}
    threading.Thread(
      target=self._server.serve_forever, kwargs=listen, daemon=True
    ).start()

  def reply(
    self,
    ask: Ask,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
  ) -> Reply:
    """What is answered if no fault is made: what the server says."""
    return ask(method, path, headers, body)

  def pass_on_to(self, host: str, port: int) -> None:
    self._handler.server_address = host, port

  def close(self) -> None:
    self._server.shutdown()
    self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True
  request_queue_size = 128  # Orbax opens many connections at once

  def handle_error(self, *unused: Any) -> None:
    """A client that has gone is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  disable_nagle_algorithm = True
  server_address: tuple[str, int]

  def fault(self) -> Fault | None:
    raise NotImplementedError

  def reply(self, body: bytes) -> Reply:
    raise NotImplementedError

  def setup(self) -> None:
    super().setup()
    self._onward = http.client.HTTPConnection(*self.server_address)

  def finish(self) -> None:
    self._onward.close()
    with contextlib.suppress(OSError):
      super().finish()

  def answer(self) -> None:
    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
    fault = self.fault() or Fault()
    time.sleep(fault.seconds)
    if fault.status:
      reply = Reply(fault.status, [], fault.text.encode())
    else:
      reply = self.reply(body)
    if fault.drops:
      self._hang_up()
      return
    self.send_response_only(reply.status)
    for name, value in reply.headers:
      self.send_header(name, value)
    if reply.status != 204:
      self.send_header("Content-Length", str(len(reply.content)))
    self.end_headers()
    if fault.cuts:
      self.wfile.write(reply.content[: len(reply.content) // 2])
      self._hang_up()
      return
    self.wfile.write(reply.content)

  do_GET = do_POST = do_PUT = do_DELETE = answer

  def ask(
    self, method: str, path: str, headers: Mapping[str, str], body: bytes
  ) -> Reply:
    """Asks the server, on the connection of this client."""
    self._onward.request(method, path, body, dict(headers))
    answer = self._onward.getresponse()
    content = answer.read()
    ours = {"content-length", "transfer-encoding", "connection"}
    kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in ours]
    return Reply(answer.status, kept, content)

  def _hang_up(self) -> None:
    self.wfile.flush()
    with contextlib.suppress(OSError):
      self.connection.shutdown(socket.SHUT_RDWR)
    self.close_connection = True

  def log_message(self, *unused: Any) -> None:
    """Nobody reads it."""

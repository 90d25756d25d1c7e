"""A small HTTP server for tests: it serves bytes, and misbehaves when told to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Optional


@dataclass
class Served:
    """One file and how it is served.

    Attributes:
        content: the bytes.
        ranges: whether requests for a part are honoured.
        statuses: answered instead, first to last, until used up.
        breaks: after how many bytes the connection is cut, first to last, until used up.
        announces_length: whether the length is in the headers.
        requests: the ``Range`` header of each request, None for the whole.
    """

    content: bytes
    ranges: bool = True
    statuses: list = field(default_factory=list)
    breaks: list = field(default_factory=list)
    announces_length: bool = True
    requests: list = field(default_factory=list)


class FileServer:
    """``with FileServer() as server: server.files["/name"] = Served(...)``; ``server.url`` is its address."""

    def __init__(self):
        self.files: dict[str, Served] = {}
        files = self.files

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                _answer(self, files.get(self.path))

            def log_message(self, *_arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FileServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_exception) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(handler: BaseHTTPRequestHandler, file: Optional[Served]) -> None:
    if file is None:
        handler.send_error(404)
        return
    wanted = handler.headers.get("Range")
    file.requests.append(wanted)
    if file.statuses:
        handler.send_error(file.statuses.pop(0))
        return
    start = int(wanted[len("bytes=") : -1]) if wanted and file.ranges else 0
    if start and start >= len(file.content):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(file.content)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    body = file.content[start:]
    handler.send_response(206 if start else 200)
    if file.announces_length:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: file.breaks.pop(0)] if file.breaks else body)

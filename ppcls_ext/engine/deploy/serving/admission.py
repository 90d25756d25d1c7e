"""The door of the service: how many requests are read at once, how large they are, how long their bodies may take."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Awaitable, Callable, MutableMapping, Optional

from starlette.responses import JSONResponse

from ppcls_ext.engine.deploy.serving.errors import RequestError
from ppcls_ext.engine.deploy.serving.limits import Limits
from ppcls_ext.engine.deploy.serving.metrics import Metrics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Seconds for which the rest of a refused body is read, so that the client sees the answer.
DRAINING = 2.0


def refusal(error: RequestError) -> JSONResponse:
    """Return the answer to a request that is refused. Its body may not have been read: the connection ends."""
    headers = {"Connection": "close"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return JSONResponse({"code": error.code, "message": error.message}, error.status, headers)


class Admission:
    """ASGI middleware around ``POST /predict``; everything else passes.

    Args:
        app: what it stands before.
        limits: of the process.
        metrics: to be told of every request.
    """

    def __init__(self, app: Callable, limits: Limits, metrics: Metrics):
        self._app, self._limits, self._metrics = app, limits, metrics
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"] != "/predict" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        started = monotonic()
        body = _Body(scope, receive, self._limits)
        send = self._counting(send)
        try:
            self._check_room()
            body.check_announced_length()
        except RequestError as error:
            self._metrics.refused.labels(error.code).inc()
            await body.drain()
            await refusal(error)(scope, body.receive, send)
            return
        self._inside += 1
        self._metrics.requests_in_progress.inc()
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._inside -= 1
            self._metrics.requests_in_progress.dec()
            self._metrics.seconds.observe(monotonic() - started)

    def _check_room(self) -> None:
        if self._inside >= self._limits.requests:
            message = f"{self._limits.requests} requests are in progress; try again"
            raise RequestError(503, "busy", message, retry_after=1)

    def _counting(self, send: Send) -> Send:
        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(str(message["status"])).inc()
            await send(message)

        return counted


class _Body:
    """The body of a request, as it comes."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits):
        self._receive, self._limits = receive, limits
        self._deadline = monotonic() + limits.body_seconds
        self._headers = {name.lower(): value for name, value in scope["headers"]}
        self._bytes = 0
        self._ended = False

    def check_announced_length(self) -> None:
        length = self._headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limits.request_bytes:
            raise self._too_large()

    def _too_large(self) -> RequestError:
        most = self._limits.request_bytes
        return RequestError(413, "request_too_large", f"the body of a request may have {most:,} bytes")

    async def receive(self) -> MutableMapping[str, Any]:
        """Return the next part.

        Raises:
            RequestError: 408 after the time for the body, 413 beyond its size.
        """
        if self._ended:  # only to wait for the client to go
            return await self._receive()
        message = await self._next(self._deadline)
        if message is None:
            seconds = self._limits.body_seconds
            raise RequestError(408, "body_too_slow", f"the body did not arrive within {seconds:g} s")
        if self._bytes > self._limits.request_bytes:
            await self.drain()
            raise self._too_large()
        return message

    async def drain(self) -> None:
        """Read a moderate rest and forget it: a client that still sends may miss an answer that comes before."""
        if b"expect" in self._headers and not self._bytes:
            return  # it waits for leave to send
        deadline = monotonic() + DRAINING
        while not self._ended and self._bytes <= 2 * self._limits.request_bytes:
            if await self._next(deadline) is None:
                return

    async def _next(self, deadline: float) -> Optional[MutableMapping[str, Any]]:
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, deadline - monotonic()))
        except asyncio.TimeoutError:
            return None
        self._bytes += len(message.get("body", b""))
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

"""Running the service: the socket, one process or several, and a stop that answers what is in progress."""

from __future__ import annotations

import functools
import inspect
import os
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any, Optional

import uvicorn
from uvicorn.supervisors import Multiprocess

from ppcls_ext.engine.deploy.serving.app import create_app
from ppcls_ext.engine.deploy.serving.classifier import Classifier
from ppcls_ext.engine.deploy.serving.errors import ServingError
from ppcls_ext.engine.deploy.serving.metrics import SHARED_FOLDER
from ppcls_ext.engine.deploy.serving.settings import Settings

#: Seconds after which a process that does not react is replaced. Importing Paddle on a busy machine takes several.
HANGING = 60


def serve(
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    stop_seconds: int = 30,
    access_log: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT; what is in progress then is answered first.

    With several processes, one that ends unexpectedly is replaced while the others go on.

    Args:
        settings: of each process.
        host: an address of this machine.
        port: 0 takes a free one, which is printed.
        workers: processes.
        stop_seconds: for which the end waits for requests in progress.
        access_log: whether to log every request.

    Raises:
        ServingError: the address cannot be used, or no process could load the model.
        KeyboardInterrupt: after SIGINT; after SIGTERM the process ends by that signal.
    """
    with listen(host, port) as sock:
        address = f"[{host}]" if ":" in host else host
        print(f"http://{address}:{sock.getsockname()[1]} (POST /predict; /docs, /health, /metrics)", flush=True)
        options: dict[str, Any] = {
            "workers": workers,
            "access_log": access_log,
            "timeout_graceful_shutdown": stop_seconds,
            "timeout_worker_healthcheck": HANGING,
            "log_level": "info",
        }
        if workers == 1:
            app = create_app(settings, Classifier(settings))
            uvicorn.Server(uvicorn.Config(app, **options)).run([sock])
            return
        with tempfile.TemporaryDirectory(prefix="ppcls_ext-metrics-") as folder:
            os.environ[SHARED_FOLDER] = folder
            mark = Path(folder) / "ready"
            application = functools.partial(create_app, settings, on_ready=mark.touch)
            supervisor = _supervisor(uvicorn.Config(application, factory=True, **options), sock)
            supervisor.mark = mark
            supervisor.run()
    if supervisor.received is None:
        raise ServingError("a process of the service could not start; its message is above")
    if supervisor.received == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(supervisor.received, signal.SIG_DFL)
    signal.raise_signal(supervisor.received)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket at ``host`` and ``port``.

    Raises:
        ServingError: if it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only for sockets that say TCP does asyncio turn Nagle's algorithm off, which delays an answer by up to 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or error
        raise ServingError(f"cannot listen at {host}, port {port}: {reason}; choose another with --port") from None
    sock.set_inheritable(True)
    return sock


class _Supervisor(Multiprocess):
    """Uvicorn's; remembers why it ended, gives up if a process ends before any was ready, and sees a death at once.

    Attributes:
        mark: a file that is there once a process is ready.
        received: the signal that ended it, if one did.
    """

    mark: Path
    received: Optional[signal.Signals] = None

    def keep_subprocess_alive(self) -> None:
        for one in self.processes:
            # The end of the pipe that the process has inherited; with a copy of it here, a question to a process that
            # was killed meanwhile would wait for its answer all the time that a busy one is given.
            one.child_conn.close()
        if not self.mark.exists() and any(one.process.exitcode is not None for one in self.processes):
            self.should_exit.set()
        else:
            super().keep_subprocess_alive()

    def handle_int(self) -> None:
        self.received = signal.SIGINT
        super().handle_int()

    def handle_term(self) -> None:
        self.received = signal.SIGTERM
        super().handle_term()


def _supervisor(config: uvicorn.Config, sock: socket.socket) -> _Supervisor:
    arguments: dict = {"config": config, "sockets": [sock]}
    if "target" in inspect.signature(Multiprocess).parameters:  # the releases for Python 3.9
        arguments["target"] = uvicorn.Server(config).run
    return _Supervisor(**arguments)

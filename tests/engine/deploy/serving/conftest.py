"""A server process of its own, and clients."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ppcls_ext.data.image_files import list_images
from ppcls_ext.engine.deploy.predictor import Predictor

for package in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
    pytest.importorskip(package, reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx", reason="the client of the tests is not installed")

ROOT = Path(__file__).parents[4]


class Server:
    """``ppcls_ext serve`` in a process, at a port of its own, ready.

    Attributes:
        url: without a path.
        process: of the command.
    """

    def __init__(self, model_dir, *options):
        command = [sys.executable, "-m", "ppcls_ext", "serve", "--model_dir", str(model_dir), "--port", "0", *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        first = self.process.stdout.readline()
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self._reader.start()
        # Each request has a connection of its own: one that is kept may lead to a process that was killed.
        self.client = httpx.Client(verify=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
        self.url = re.match(r"http://[\d.]+:\d+", first)[0]
        self.port = int(self.url.rpartition(":")[2])
        self.wait_for(lambda: self.health() == 200)

    def health(self):
        try:
            return self.get("/health").status_code
        except httpx.TransportError:  # not yet
            return None

    def post(self, images=None, **arguments):
        """Post images, given as (name, bytes) pairs, or what ``arguments`` say."""
        if images is not None:
            arguments["files"] = [("images", image) for image in images]
        return self.client.post(f"{self.url}/predict", **arguments)

    def get(self, path):
        return self.client.get(f"{self.url}{path}")

    def figure(self, name) -> float:
        """Return a figure of /metrics, summed over its labels unless ``name`` holds them."""
        text = self.get("/metrics").text
        lines = [line for line in text.splitlines() if line.startswith(name) and not line.startswith("#")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.split(r"[{ ]", line)[0] == name.split("{")[0])

    def wait_for(self, condition):
        """Wait until ``condition`` holds; fail when the process ends first, or after two minutes."""
        for _ in range(1200):
            if condition():
                return
            assert self.process.poll() is None, self.output()
            time.sleep(0.1)
        raise AssertionError("waited for two minutes")

    def connect(self) -> socket.socket:
        """Return a connection that the test drives byte by byte."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def output(self) -> str:
        """Return what was printed after the first line."""
        return "".join(self.lines)

    def stop(self) -> tuple:
        """Send SIGTERM; return the exit code and what was printed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)
        self._reader.join(timeout=60)
        return self.process.returncode, self.output()


@pytest.fixture(scope="session")
def start(exported):
    """Start servers of the exported digits; they are stopped in the end."""
    servers = []

    def new(*options):
        servers.append(Server(exported.folder, *options))
        return servers[-1]

    yield new
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def server(start):
    """One process with tight limits."""
    return start(
        *("--max_images", "8", "--max_image_mb", "1", "--max_request_mb", "2", "--max_pixels", "1000000"),
        *("--max_requests", "40", "--body_timeout", "3"),
    )


@pytest.fixture(scope="session")
def photos(exported) -> list:
    """(name, bytes) of 64 digits."""
    return [(path.name, path.read_bytes()) for path in list_images(exported.digits / "val_list.txt")[:64]]


@pytest.fixture(scope="session")
def expected(exported, photos) -> dict:
    """What the predictor says of each of them, one by one."""
    predictor = Predictor(exported.folder, topk=10)
    return {name: predictor.predict([data])[0] for name, data in photos}

"""Throughput and latency of the HTTP service under closed-loop load: each connection sends its next image when it has
its answer.

    python benchmarks/serve_load.py --model_dir inference/ResNet50 --connections 1 8 32 --seconds 10

Servers with and without shared batches run side by side and are loaded in turn, in several rounds, so that what else
the machine does meets both alike. Clients run on the same machine and take their share of its cores.
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "one image a batch": ["--batch_size", "1", "--batch_window", "0"],
    "shared batches": ["--batch_size", "16", "--batch_window", "3"],
}


def photo(width: int = 500, height: int = 375) -> bytes:
    """Return a JPEG of the size of ImageNet's images: smooth colours with noise."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


class Server:
    """A service in a process of its own."""

    def __init__(self, model_dir: str, options: list):
        command = [sys.executable, "-m", "ppcls_ext", "serve", "--model_dir", model_dir, "--port", "0", *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(re.search(r":(\d+) ", self.process.stdout.readline())[1])
        while True:
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                time.sleep(0.1)

    def get(self, path: str) -> tuple:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()

    def figure(self, name: str) -> float:
        return float(re.search(rf"^{name} (\S+)$", self.get("/metrics")[1], re.MULTILINE)[1])

    def cpu_seconds(self) -> float:
        """Return the processor time that the server has used (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def load(server: Server, connections: int, seconds: float, body: bytes, kind: str) -> list:
    """Return the latencies of all requests, in seconds."""
    latencies: list = []
    end = time.monotonic() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        mine = []
        while (started := time.monotonic()) < end:
            connection.request("POST", "/predict", body, {"Content-Type": kind})
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer
            mine.append(time.monotonic() - started)
        latencies.extend(mine)

    threads = [threading.Thread(target=client) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True, type=os.path.abspath)  # servers start in another folder
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10, help="of one measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", default="", help="more options of `serve`, such as '--engine onnxruntime'")
    arguments = parser.parse_args()

    data = photo()
    head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
    body, kind = head + data + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"
    more = arguments.options.split()
    servers = {name: Server(arguments.model_dir, [*options, *more]) for name, options in SETTINGS.items()}
    print(f"a JPEG of {len(data):,} bytes, {arguments.seconds:g} s a measurement, median of {arguments.rounds} rounds")
    print(
        "| connections | batches | images/s | p50 ms | p95 ms | p99 ms | images a batch | CPU ms an image |\n|"
        + "---|" * 8
    )
    try:
        for server in servers.values():
            load(server, 4, 2, body, kind)  # warm up
        for connections in arguments.connections:
            rows: dict = {name: [] for name in servers}
            for _ in range(arguments.rounds):
                for name, server in servers.items():
                    names = ("ppcls_ext_batch_images_sum", "ppcls_ext_batch_images_count")
                    before = [server.figure(figure) for figure in names]
                    cpu = server.cpu_seconds()
                    latencies = load(server, connections, arguments.seconds, body, kind)
                    cpu = 1000 * (server.cpu_seconds() - cpu) / len(latencies)
                    images, batches = (server.figure(figure) - old for figure, old in zip(names, before))
                    p50, p95, p99 = (1000 * np.percentile(latencies, share) for share in (50, 95, 99))
                    rows[name].append((len(latencies) / arguments.seconds, p50, p95, p99, images / batches, cpu))
            for name, measured in rows.items():
                rate, p50, p95, p99, size, cpu = (statistics.median(column) for column in zip(*measured))
                print(
                    f"| {connections} | {name} | {rate:.1f} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {size:.1f} "
                    f"| {cpu:.1f} |",
                    flush=True,
                )
    finally:
        for server in servers.values():
            server.stop()


if __name__ == "__main__":
    main()

"""Several processes: one that is killed is replaced while the other goes on."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes in /proc")


def workers_of(parent: int) -> list:
    """Return the processes that serve: children that multiprocessing has spawned, without its resource tracker."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_killed_process_is_replaced_while_the_other_goes_on(start, photos, expected):
    server = start("--workers", "2", "--cpu_threads", "1")
    server.wait_for(lambda: server.output().count("Application startup complete") == 2)
    first = workers_of(server.process.pid)
    assert len(first) == 2

    def ask(number):
        """Return whether the answer is right; None if the connection broke."""
        name, data = photos[number % 64]
        try:
            (result,) = server.post([(name, data)]).json()["results"]
        except httpx.TransportError:
            return None
        return result["class_ids"] == expected[name]["class_ids"][:3]

    with ThreadPoolExecutor(8) as clients:
        assert all(clients.map(ask, range(64)))
        os.kill(first[0], signal.SIGKILL)
        while Path(f"/proc/{first[0]}/task").is_dir() and first[0] in workers_of(server.process.pid):
            assert False not in clients.map(ask, range(64))
        assert list(clients.map(ask, range(64))).count(True) == 64  # the other one answers meanwhile
        server.wait_for(lambda: server.output().count("Application startup complete") == 3)
    replaced = workers_of(server.process.pid)
    assert len(replaced) == 2 and first[0] not in replaced and first[1] in replaced
    assert server.figure("ppcls_ext_images_total") >= 128  # of all processes, the dead one too
    code, output = server.stop()
    assert code == -signal.SIGTERM and "Traceback" not in output
    assert output.count("Finished server process") == 2


def test_a_model_that_no_process_can_load_ends_the_service(exported, tmp_path):
    """Unverified, damage is found by Paddle alone, whose reader crashes."""
    for file in exported.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "inference.pdmodel").write_bytes(b"damaged")
    command = [sys.executable, "-m", "ppcls_ext", "serve", "--model_dir", str(tmp_path), "--port", "0", "--no_verify"]
    done = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ppcls_ext serve: error: a process of the service could not start; its message is above"
    )

"""What the service tells Prometheus, of one process or of several together."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

#: Names the folder in which processes share their figures; prometheus_client reads it when it is imported.
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters, sizes and times of the service."""

    def __init__(self):
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "ppcls_ext_requests", "Answers to POST /predict, by HTTP status.", ["status"], registry=registry
        )
        self.refused = Counter("ppcls_ext_refused", "Refused requests, by reason.", ["code"], registry=registry)
        self.images = Counter("ppcls_ext_images", "Answered images: ok or error.", ["outcome"], registry=registry)
        self.seconds = Histogram(
            "ppcls_ext_request_seconds", "From header to answer.", buckets=SECONDS, registry=registry
        )
        self.batch_images = Histogram("ppcls_ext_batch_images", "Images a batch.", buckets=SIZES, registry=registry)
        self.batch_seconds = Histogram(
            "ppcls_ext_batch_seconds", "Decoding and running a batch.", buckets=SECONDS, registry=registry
        )
        self.images_in_progress = Gauge(
            "ppcls_ext_images_in_progress",
            "Images that wait or are in the model.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.requests_in_progress = Gauge(
            "ppcls_ext_requests_in_progress", "Admitted requests.", registry=registry, multiprocess_mode="livesum"
        )
        for outcome in ("ok", "error"):
            self.images.labels(outcome)  # so that both are there, as 0, from the start

    def batch(self, images: int, seconds: float) -> None:
        """Note a batch."""
        self.batch_images.observe(images)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return the figures in Prometheus's text format, of all processes that share a folder."""
        if SHARED_FOLDER not in os.environ:
            return generate_latest(self._registry)
        forget_dead_processes(Path(os.environ[SHARED_FOLDER]))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)


def forget_dead_processes(folder: Path) -> None:
    """Drop the gauges of processes that were killed; what they counted stays."""
    for file in folder.glob("gauge_live*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdigit() and not _is_alive(int(pid)):
            mark_process_dead(int(pid), path=str(folder))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

"""Worker processes that load batches in order.

Why not ``paddle.io.DataLoader``: with ``num_workers=0`` it blocks for good when a dataset raises (seen on 3.3.1), its
workers outlived a main process that was ended abruptly, images travel through ``/dev/shm`` (a bus error where that is
small, as in containers), and there are no workers on Windows and macOS.

Here each worker has a pipe of its own; batch k is the task of worker k mod n, so no queue, lock or thread is needed
and the order is fixed. Images travel in anonymous memory (``memfd``), which no limit on ``/dev/shm`` concerns and which
the system frees with its last user; where the system has none, they go through the pipe.
"""

from __future__ import annotations

import contextlib
import logging
import math
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from multiprocessing import connection, reduction, util
from typing import Any, Generator, Iterator, Optional

import numpy as np

from ppcls_ext.data.batch_ops import BatchTransforms
from ppcls_ext.data.collate import ArrayBatch, load_batch
from ppcls_ext.data.datasets import ClassificationDataset
from ppcls_ext.data.errors import BadImageError, DataFileError, TransformError, WorkerDiedError
from ppcls_ext.data.sampler import EpochSampler

logger = logging.getLogger(__name__)

PREFETCH = 2  # batches that each worker is ahead
_RAISED_AS_THEY_ARE = {
    error.__name__: error
    for error in (BadImageError, DataFileError, TransformError, FileNotFoundError, ValueError, MemoryError)
}


def has_anonymous_memory() -> bool:
    """Return whether images can travel in anonymous shared memory (Linux)."""
    if not hasattr(os, "memfd_create") or not reduction.HAVE_SEND_HANDLE:
        return False
    handle = _new_memory(b"")
    if handle is not None:
        os.close(handle)
    return handle is not None


def default_start_method() -> str:
    """Return how worker processes start: by fork on Linux, else by spawn."""
    return "fork" if sys.platform.startswith("linux") else "spawn"


class WorkerPool:
    """Processes that load the batches of a dataset; they live until :meth:`close`, or until this process ends.

    Args:
        dataset: what to load.
        sampler: which samples belong to which batch.
        count: number of processes, at least 1.
        use_shared_memory: send images through shared memory where the system has it.
        start_method: "fork" or "spawn", default :func:`default_start_method`.
        batch_transforms: operators on a whole batch.
        normalize: whether the processes do the dataset's NormalizeImage at the end.
    """

    def __init__(
        self,
        dataset: ClassificationDataset,
        sampler: EpochSampler,
        count: int,
        use_shared_memory: bool = True,
        start_method: Optional[str] = None,
        batch_transforms: Optional[BatchTransforms] = None,
        normalize: bool = True,
    ):
        context: Any = multiprocessing.get_context(start_method or default_start_method())
        shared = use_shared_memory and has_anonymous_memory()
        if use_shared_memory and not shared:
            logger.info("no anonymous shared memory on this system: images come from the data workers through pipes")
        self.pipes, self.processes = [], []
        with _no_interrupts():
            for number in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_work,
                    args=(dataset, sampler, batch_transforms, normalize, theirs, shared),
                    name=f"ppcls_ext-data-{number}",
                    daemon=True,
                )
                process.start()
                theirs.close()
                self.pipes.append(ours)
                self.processes.append(process)
        # Runs at exit before multiprocessing joins its children, and when the pool is collected.
        self._finalizer = util.Finalize(self, _stop, args=(self.pipes, self.processes), exitpriority=10)

    def batches(self, epoch: int, start: int, stop: int) -> Generator[ArrayBatch, None, None]:
        """Yield batches ``start`` to ``stop`` - 1 of ``epoch`` in order.

        When the caller stops early the processes are ended: nothing is left over for a later epoch to receive.

        Raises:
            BadImageError: if an image cannot be read, in evaluation.
            TransformError: if an operator fails.
            WorkerDiedError: if a process ends unexpectedly.
        """
        sent = received = start
        try:
            while received < stop:
                while sent < min(stop, received + PREFETCH * len(self.pipes)):
                    self._send(sent, (epoch, sent))
                    sent += 1
                batch = self._receive(received)
                received += 1
                yield batch
        finally:
            if received < sent:
                self.close()

    @property
    def closed(self) -> bool:
        """Whether the processes have ended."""
        return not self._finalizer.still_active()

    def close(self) -> None:
        """End the processes at once."""
        self._finalizer()

    def _send(self, batch: int, task: tuple) -> None:
        worker = batch % len(self.pipes)
        try:
            self.pipes[worker].send(task)
        except (BrokenPipeError, ConnectionResetError):
            raise self._death(worker, batch) from None

    def _receive(self, batch: int) -> ArrayBatch:
        worker = batch % len(self.pipes)
        pipe = self.pipes[worker]
        connection.wait([pipe, self.processes[worker].sentinel])
        try:
            if not pipe.poll():
                raise EOFError
            kind, content = pipe.recv()
            if kind == "error":
                name, message, trace = content
                raise _RAISED_AS_THEY_ARE.get(name, RuntimeError)(
                    message if name in _RAISED_AS_THEY_ARE else f"a data worker failed:\n{trace}"
                )
            return _receive_images(pipe, *content) if kind == "shared" else content
        except (EOFError, ConnectionResetError):
            raise self._death(worker, batch) from None

    def _death(self, worker: int, batch: int) -> WorkerDiedError:
        process = self.processes[worker]
        process.join(timeout=1)
        return WorkerDiedError(
            f"data worker {worker} (pid {process.pid}) ended with exit code {process.exitcode} while loading batch "
            f"{batch}; -9 often means that memory ran out: lower loader.num_workers or sampler.batch_size"
        )


def _stop(pipes: list, processes: list) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
        process.close()


def _work(
    dataset: ClassificationDataset,
    sampler: EpochSampler,
    transforms: Optional[BatchTransforms],
    normalize: bool,
    pipe: connection.Connection,
    shared: bool,
) -> None:
    """Serve tasks ``(epoch, batch)`` until the parent is gone."""
    _leave_signals_to_the_parent()
    _use_one_thread()
    main = multiprocessing.parent_process()
    if main is None:
        raise RuntimeError("a data worker must run in a process of its own")
    parent = main.sentinel
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    known_epoch, batches = None, []
    while pipe in connection.wait([pipe, parent]):
        try:
            epoch, batch = pipe.recv()
            if epoch != known_epoch:
                known_epoch, batches = epoch, sampler.batches(epoch)
            try:
                size = sampler.image_size(epoch, batch)
                loaded = load_batch(dataset, batches[batch], epoch, batch, transforms, normalize, size)
            except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
                pipe.send(("error", (type(error).__name__, str(error), traceback.format_exc())))
                continue
            _send(pipe, loaded, shared)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _end_with(parent: int) -> None:
    """Wait for the parent's end, then end this process, even where it is blocked in a read of a slow or hung disk."""
    connection.wait([parent])
    os._exit(1)


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back for a moment: a process that is forked now must not get it before it ignores it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, where a new process does not inherit handlers either
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C reaches a whole process group; only the parent shall act on it (save, then end its workers)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, "setsid"):
        os.setsid()


def _use_one_thread() -> None:
    """Parallelism comes from the processes; OpenCV's own threads would only compete, and do not survive a fork."""
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)
        return
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(0)


def _send(pipe: connection.Connection, batch: ArrayBatch, shared: bool) -> None:
    labels = np.ascontiguousarray(batch.labels)
    # Labels first: a multiple of their size is where images of any type may begin.
    memory = _new_memory(labels, np.ascontiguousarray(batch.images)) if shared and batch.images.size else None
    if memory is None:
        pipe.send(("pickled", batch))
        return
    try:
        described = (batch.images.shape, batch.images.dtype.str, labels.shape, labels.dtype.str)
        pipe.send(("shared", (*described, batch.indices, batch.bad)))
        reduction.send_handle(pipe, memory, os.getppid())
    finally:
        os.close(memory)


def _new_memory(*parts) -> Optional[int]:
    """Return the handle of new anonymous memory that holds ``parts``, or None if the system gives none."""
    try:
        handle = os.memfd_create("ppcls_ext-batch")
    except OSError:
        return None
    try:
        with open(handle, "wb", closefd=False) as stream:
            for part in parts:
                stream.write(part)
    except OSError:
        os.close(handle)
        return None
    return handle


def _receive_images(
    pipe: connection.Connection,
    shape: tuple,
    dtype: str,
    labels_shape: tuple,
    labels_dtype: str,
    indices: np.ndarray,
    bad: list,
) -> ArrayBatch:
    handle = reduction.recv_handle(pipe)
    try:
        memory = mmap.mmap(handle, 0, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(handle)
    # The arrays keep the mapping alive.
    labels = np.frombuffer(memory, labels_dtype, math.prod(labels_shape)).reshape(labels_shape)
    images = np.frombuffer(memory, dtype, offset=labels.nbytes).reshape(shape)
    return ArrayBatch(images, labels, indices, bad)

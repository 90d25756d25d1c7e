"""Joining what concurrent requests bring into batches."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any, Callable, Optional, Sequence, Union

from ppcls_ext.engine.deploy.serving.errors import RequestError

#: Batches at once: while one is in the model, the images of the next are decoded.
BATCHES_AT_ONCE = 2


@dataclass
class _Waiting:
    item: Any
    result: asyncio.Future
    arrived: float


class Batcher:
    """Collects items for a few milliseconds and hands them to a function together.

    It belongs to the event loop that it is used in.

    Args:
        run: called in a thread with up to ``largest`` items; returns a result for each. If it fails, each item is tried
            alone, so that one cannot spoil the others.
        largest: items a call.
        window: seconds that the first item of a batch waits for others. While ``run`` is busy they wait anyway.
        queue: items that may wait; more are refused.
        on_batch: told the number of items of each call that succeeded, and the seconds that it took.
    """

    def __init__(
        self,
        run: Callable[[list], Sequence],
        largest: int,
        window: float,
        queue: int,
        on_batch: Optional[Callable[[int, float], None]] = None,
    ):
        self._run, self._largest, self._window, self._queue = run, largest, window, queue
        self._on_batch = on_batch or (lambda items, seconds: None)
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._slots = asyncio.Semaphore(BATCHES_AT_ONCE)
        self._running: set[asyncio.Task] = set()
        self._pool = ThreadPoolExecutor(BATCHES_AT_ONCE, "batch")
        self._collector = asyncio.get_running_loop().create_task(self._collect())

    @property
    def waiting(self) -> int:
        """Return how many items wait."""
        return len(self._waiting)

    async def submit(self, items: Sequence) -> list[Union[Any, Exception]]:
        """Return the result of each item, in order, or the exception that it led to.

        Raises:
            RequestError: 503, if the queue has no room for all of them.
        """
        if len(self._waiting) + len(items) > self._queue:
            raise RequestError(503, "queue_full", f"{len(self._waiting)} images wait already; try again", retry_after=1)
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(item, loop.create_future(), monotonic()) for item in items]
        self._waiting.extend(waiting)
        self._arrived.set()
        return await asyncio.gather(*(one.result for one in waiting), return_exceptions=True)

    async def close(self) -> None:
        """Wait until everything that was submitted is answered, then end."""
        while self._waiting or self._running:
            await asyncio.sleep(0.01)
        self._collector.cancel()
        await asyncio.gather(self._collector, return_exceptions=True)
        self._pool.shutdown()

    async def _collect(self) -> None:
        while True:
            await self._slots.acquire()
            batch = await self._next_batch()
            task = asyncio.get_running_loop().create_task(self._answer(batch))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task) -> None:
        self._running.discard(task)
        self._slots.release()

    async def _next_batch(self) -> list[_Waiting]:
        """Wait until the batch is full, or the window of its first item is over."""
        await self._wait_for(1, None)
        await self._wait_for(self._largest, self._waiting[0].arrived + self._window)
        return [self._waiting.popleft() for _ in range(min(self._largest, len(self._waiting)))]

    async def _wait_for(self, count: int, deadline: Optional[float]) -> None:
        while len(self._waiting) < count:
            seconds = None if deadline is None else deadline - monotonic()
            if seconds is not None and seconds <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), seconds)
            except asyncio.TimeoutError:
                return

    async def _answer(self, batch: list[_Waiting]) -> None:
        batch = [one for one in batch if not one.result.done()]  # whoever asked may have gone
        try:
            results = await self._call([one.item for one in batch]) if batch else []
        except Exception as error:  # noqa: BLE001 - whatever it is, each item gets an answer
            if len(batch) == 1:
                results = [error]
            else:
                results = [await self._alone(one.item) for one in batch]
        for one, result in zip(batch, results):
            if one.result.done():
                continue
            if isinstance(result, Exception):
                one.result.set_exception(result)
            else:
                one.result.set_result(result)

    async def _call(self, items: list) -> Sequence:
        started = monotonic()
        results = await asyncio.get_running_loop().run_in_executor(self._pool, self._run, items)
        if len(results) != len(items):
            raise RuntimeError(f"{len(items)} items gave {len(results)} results")
        self._on_batch(len(items), monotonic() - started)
        return results

    async def _alone(self, item: Any) -> Union[Any, Exception]:
        try:
            return (await self._call([item]))[0]
        except Exception as error:  # noqa: BLE001 - see above
            return error

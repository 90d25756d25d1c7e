"""Batches: what shares one, what waits for whom, and what happens to the rest when one item fails."""

import asyncio
import threading

import pytest

from ppcls_ext.engine.deploy.serving.batcher import BATCHES_AT_ONCE, Batcher
from ppcls_ext.engine.deploy.serving.errors import RequestError

LONG = 3600.0  # a window that never ends


class Doubling:
    """Notes each batch; fails on a batch that holds ``bad``; waits for ``leave`` if it is taken away."""

    def __init__(self, bad=None):
        self.batches, self.bad = [], bad
        self.leave = threading.Event()
        self.leave.set()

    def __call__(self, items):
        self.batches.append(list(items))
        assert self.leave.wait(60)
        if self.bad in items:
            raise ValueError(f"{self.bad} is bad")
        return [2 * item for item in items]


def run(talk, doubling, **arguments):
    """Run ``talk(batcher)`` in an event loop of its own."""

    async def main():
        batcher = Batcher(doubling, **{"largest": 4, "window": LONG, "queue": 100, **arguments})
        try:
            return await talk(batcher)
        finally:
            await batcher.close()

    return asyncio.run(main())


def test_a_full_batch_does_not_wait_for_the_window():
    doubling = Doubling()

    async def talk(batcher):
        return await asyncio.gather(*(batcher.submit([number, -number]) for number in (1, 2)))

    assert run(talk, doubling) == [[2, -2], [4, -4]]
    assert doubling.batches == [[1, -1, 2, -2]]


def test_the_window_ends_a_batch_that_is_not_full():
    doubling = Doubling()
    assert run(lambda batcher: batcher.submit([1, 2, 3]), doubling, window=0.01) == [2, 4, 6]
    assert doubling.batches == [[1, 2, 3]]


def test_a_large_request_is_split_and_its_results_stay_in_order():
    doubling = Doubling()
    assert run(lambda batcher: batcher.submit(range(8)), doubling) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert sorted(doubling.batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_what_arrives_while_the_model_is_busy_becomes_one_batch():
    doubling = Doubling()
    doubling.leave.clear()

    async def talk(batcher):
        first = [asyncio.create_task(batcher.submit([number] * 4)) for number in range(BATCHES_AT_ONCE)]
        while len(doubling.batches) < BATCHES_AT_ONCE:
            await asyncio.sleep(0.001)
        late = [asyncio.create_task(batcher.submit([number])) for number in range(10, 14)]
        await asyncio.sleep(0.05)  # far beyond the window; nothing may start
        assert len(doubling.batches) == BATCHES_AT_ONCE and batcher.waiting == 4
        doubling.leave.set()
        await asyncio.gather(*first)
        return await asyncio.gather(*late)

    assert run(talk, doubling, window=0.001) == [[20], [22], [24], [26]]
    assert doubling.batches[BATCHES_AT_ONCE:] == [[10, 11, 12, 13]]


def test_an_item_that_fails_does_not_fail_its_neighbours():
    doubling, noted = Doubling(bad=3), []

    async def talk(batcher):
        return await asyncio.gather(batcher.submit([1, 2]), batcher.submit([3, 4]))

    one, two = run(talk, doubling, on_batch=lambda items, seconds: noted.append(items))
    assert one == [2, 4] and two[1] == 8
    assert isinstance(two[0], ValueError) and str(two[0]) == "3 is bad"
    assert doubling.batches == [[1, 2, 3, 4], [1], [2], [3], [4]]
    assert noted == [1, 1, 1]


def test_a_wrong_number_of_results_is_an_error_of_every_item():
    results = run(lambda batcher: batcher.submit([1, 2, 3, 4]), lambda items: [])
    assert [str(result) for result in results] == ["1 items gave 0 results"] * 4


def test_the_queue_takes_a_request_whole_or_not_at_all():
    doubling = Doubling()

    async def talk(batcher):
        waiting = asyncio.create_task(batcher.submit([1, 2]))
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as refused:
            await batcher.submit([3, 4])
        assert (refused.value.status, refused.value.code, refused.value.retry_after) == (503, "queue_full", 1)
        return await waiting, await batcher.submit([5])

    assert run(talk, doubling, queue=3, window=0.05) == ([2, 4], [10])


def test_closing_answers_what_waits():
    doubling = Doubling()

    async def talk(batcher):
        waiting = asyncio.create_task(batcher.submit([1]))
        await asyncio.sleep(0)
        await batcher.close()
        return await waiting

    assert run(talk, doubling, window=0.05) == [2]


def test_whoever_has_gone_costs_nothing():
    doubling = Doubling()

    async def talk(batcher):
        gone = asyncio.create_task(batcher.submit([1]))
        await asyncio.sleep(0)
        gone.cancel()
        return await batcher.submit([2, 3, 4])

    assert run(talk, doubling) == [4, 6, 8]
    assert doubling.batches == [[2, 3, 4]]

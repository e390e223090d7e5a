"""Group commit: nobody waits for company, everybody gets the own result."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.store import group as group_module
from orchestrator.store.group import COMPANY, Group


class Slow:
    """A write that ends when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        return [ValueError(f"no {item}") if item < 0 else item * 10 for item in items]


async def until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0)


async def test_an_idle_group_writes_a_single_item_at_once_and_the_others_gather() -> None:
    write = Slow()
    group: Group[int, int] = Group(write, key=lambda _: None)
    first = asyncio.create_task(group.put(1))
    await until(lambda: write.batches)
    rest = [asyncio.create_task(group.put(number)) for number in range(2, 9)]
    await asyncio.sleep(0)
    assert write.batches == [[1]]
    write.gate.set()
    assert await asyncio.gather(first, *rest) == [number * 10 for number in range(1, 9)]
    assert write.batches == [[1], list(range(2, 9))]


class Pauses:
    """Stands for `asyncio` in the group's module: no pause ends before it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[float] = []
        self.gate = asyncio.Event()
        monkeypatch.setattr(group_module.asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.gate.wait()


def put(group: "Group[int, int]", numbers: Sequence[int]) -> "list[asyncio.Task[int]]":
    return [asyncio.create_task(group.put(number)) for number in numbers]


async def test_a_busy_group_lets_the_next_transaction_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    write, pauses = Slow(), Pauses(monkeypatch)
    write.gate.set()
    group: Group[int, int] = Group(write, key=lambda _: None, gather_s=60)
    first = list(range(COMPANY))
    assert await asyncio.gather(*put(group, first)) == [number * 10 for number in first]
    later = put(group, [7]) + put(group, [8])
    await asyncio.wait(later, timeout=0)
    assert write.batches == [first]
    assert [50 < pause <= 60 for pause in pauses.asked] == [True]
    pauses.gate.set()
    assert await asyncio.gather(*later) == [70, 80]
    assert write.batches == [first, [7, 8]]
    assert len(pauses.asked) == 1, "two are no company"


async def test_a_group_that_is_not_busy_or_is_full_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    write, pauses = Slow(), Pauses(monkeypatch)
    write.gate.set()
    group: Group[int, int] = Group(write, key=lambda _: None, limit=COMPANY, gather_s=60)
    for number in range(1, COMPANY):
        assert await asyncio.gather(*put(group, range(number))) == [item * 10 for item in range(number)]
    assert pauses.asked == []
    pauses.gate.set()
    await asyncio.gather(*put(group, range(3 * COMPANY)))
    assert len(pauses.asked) == 1, "only when less than a whole group is left"


async def test_a_runner_that_is_cancelled_while_it_gathers_cancels_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    write, pauses = Slow(), Pauses(monkeypatch)
    write.gate.set()
    group: Group[int, int] = Group(write, key=lambda _: None, gather_s=60)
    await asyncio.gather(*put(group, range(COMPANY)))
    waiting = put(group, [7, 8])
    await asyncio.wait(waiting, timeout=0)
    assert len(pauses.asked) == 1
    assert group._runner is not None
    group._runner.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2
    assert len(write.batches) == 1


async def test_a_group_has_a_limit_and_never_two_items_of_one_key() -> None:
    write = Slow()
    write.gate.set()
    group: Group[int, int] = Group(write, key=lambda item: item % 2 or None, limit=3)
    await asyncio.gather(*(group.put(number) for number in range(1, 9)))
    assert [sum(item % 2 for item in batch) for batch in write.batches] == [1, 1, 1, 1]
    assert max(map(len, write.batches)) == 3
    assert sorted(itertools.chain(*write.batches)) == list(range(1, 9))


async def test_an_exception_reaches_its_own_caller_only() -> None:
    write = Slow()
    write.gate.set()
    group: Group[int, int] = Group(write, key=lambda _: None)
    results = await asyncio.gather(*(group.put(number) for number in (1, -2, 3)), return_exceptions=True)
    assert results[::2] == [10, 30]
    assert str(results[1]) == "no -2"


async def test_a_write_that_raises_fails_its_group_and_not_the_next() -> None:
    calls: list[int] = []

    async def write(items: Sequence[int]) -> Sequence[int | Exception]:
        calls.append(len(items))
        if len(calls) == 1:
            raise OSError("gone")
        return list(items)

    group: Group[int, int] = Group(write, key=lambda _: None)
    results = await asyncio.gather(group.put(1), group.put(2), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    assert await group.put(3) == 3


async def test_a_cancelled_caller_takes_nobody_along() -> None:
    write = Slow()
    group: Group[int, int] = Group(write, key=lambda _: None)
    tasks = [asyncio.create_task(group.put(number)) for number in (1, 2, 3)]
    await until(lambda: write.batches)
    tasks[1].cancel()
    await asyncio.sleep(0)
    write.gate.set()
    assert await asyncio.gather(tasks[0], tasks[2]) == [10, 30]
    assert tasks[1].cancelled()


async def test_drain_waits_for_everything_that_was_put() -> None:
    write = Slow()
    group: Group[int, int] = Group(write, key=lambda _: None, limit=1)
    await group.drain()
    tasks = [asyncio.create_task(group.put(number)) for number in range(5)]
    await until(lambda: write.batches)
    draining = asyncio.create_task(group.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    write.gate.set()
    await draining
    assert len(write.batches) == 5
    await asyncio.gather(*tasks)


async def test_a_group_whose_runner_is_cancelled_cancels_its_callers() -> None:
    write = Slow()
    group: Group[int, int] = Group(write, key=lambda _: None, limit=1)
    tasks = [asyncio.create_task(group.put(number)) for number in range(3)]
    await until(lambda: write.batches)
    assert group._runner is not None
    group._runner.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 30), max_size=40), st.integers(1, 7), st.integers(1, 5))
def test_every_item_is_written_exactly_once_whatever_the_keys_and_the_limit(
    items: list[int], limit: int, modulus: int
) -> None:
    async def all_of_them() -> None:
        write = Slow()
        write.gate.set()
        group: Group[int, int] = Group(write, key=lambda item: item % modulus, limit=limit)
        results = await asyncio.gather(*(group.put(item) for item in items), return_exceptions=True)
        assert [result for result in results if isinstance(result, int)] == [i * 10 for i in items if i >= 0]
        assert sorted(itertools.chain(*write.batches)) == sorted(items)
        for batch in write.batches:
            assert len(batch) <= limit
            assert len({item % modulus for item in batch}) == len(batch)

    asyncio.run(all_of_them())


async def test_a_mistake_in_counting_is_not_swallowed() -> None:
    async def write(_items: Sequence[int]) -> Sequence[int | Exception]:
        return []

    group: Group[int, int] = Group(write, key=lambda _: None)
    with pytest.raises(ValueError, match="zip"):
        await group.put(1)

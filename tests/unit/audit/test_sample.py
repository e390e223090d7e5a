"""A sample: anybody can draw it again, and nobody's order of listing matters."""

import hashlib
from collections.abc import AsyncIterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.audit.sample import draw, order_of

ROOT = bytes(range(32))


async def listed(leaves: Sequence[int]) -> AsyncIterator[tuple[str, int, int]]:
    for leaf in leaves:
        yield f"pay-{leaf}", 1, leaf


def by_hand(root: bytes, nonce: str, leaves: Sequence[int], number: int) -> list[int]:
    """The rule as an auditor would write it down, with nothing of ours."""

    def order(leaf: int) -> str:
        return hashlib.sha256(root + nonce.encode("utf-8") + leaf.to_bytes(8, "big")).hexdigest()

    return sorted(leaves, key=order)[:number]


@given(
    leaves=st.lists(st.integers(0, 2**40), unique=True, max_size=60),
    number=st.integers(1, 70),
    nonce=st.text(max_size=9),
)
async def test_an_auditor_draws_the_same_sample_by_hand(leaves: list[int], number: int, nonce: str) -> None:
    drawn = await draw(listed(leaves), ROOT, nonce, number)

    assert [item.leaf for item in drawn.items] == by_hand(ROOT, nonce, leaves, number)
    assert [item.order for item in drawn.items] == [order_of(ROOT, nonce, item.leaf) for item in drawn.items]
    assert drawn.population == len(leaves)


@given(data=st.data(), leaves=st.lists(st.integers(0, 10**6), unique=True, min_size=1, max_size=60))
async def test_the_order_in_which_the_population_comes_does_not_matter(data: st.DataObject, leaves: list[int]) -> None:
    shuffled = data.draw(st.permutations(leaves))

    assert await draw(listed(leaves), ROOT, "n", 7) == await draw(listed(shuffled), ROOT, "n", 7)


async def test_another_nonce_or_another_root_is_another_sample() -> None:
    leaves = range(1000)
    drawn = [
        tuple(item.leaf for item in (await draw(listed(leaves), root, nonce, 25)).items)
        for root, nonce in ((ROOT, ""), (ROOT, "a"), (bytes(32), ""))
    ]
    assert len(set(drawn)) == 3


async def test_a_larger_sample_begins_with_the_smaller_one() -> None:
    small, large = [await draw(listed(range(500)), ROOT, "n", number) for number in (10, 20)]
    assert large.items[:10] == small.items

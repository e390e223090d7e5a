"""What `prove` gives is accepted by a verifier that knows nothing of ours, and so is the database."""

import json
from pathlib import Path

import pytest

from orchestrator.audit.notes import read_note
from orchestrator.audit.proof import prove
from orchestrator.domain.errors import InvalidInput, NotFound
from tests.integration.audit.test_seal_matrix import KEY, OTHER, SEALED, TAIL, Estate, estate, record, tale
from tests.support.independent import check_database, check_proof
from tests.support.intruder import intruder

__all__ = ["estate"]


async def test_every_entry_of_a_payment_is_proven_to_anybody(estate: Estate) -> None:
    async with estate.store() as store:
        first = await store.newest_seal()
        await estate.sealer(store).seal()
        await record(store, tale("pay-more"))
        await estate.sealer(store).seal()
        old = read_note(first.note, "old.note")

        for chain in (SEALED, TAIL, OTHER, "pay-more"):
            document = await prove(store, chain, [("old.note", old)])
            assert check_proof(json.dumps(document), str(KEY.public)) == [(chain, seq) for seq in range(1, 7)]


async def test_the_second_verifier_finds_what_ours_finds(estate: Estate) -> None:
    if not estate.url.startswith("sqlite"):
        pytest.skip("the second verifier reads files")
    file = Path(estate.url.removeprefix("sqlite:///"))

    found = check_database(file, str(KEY.public))
    report = await estate.verified()
    assert {name: report.counts[name] for name in ("entries", "leaves", "checkpoints")} | {"bad": []} == found

    with intruder(estate.url) as it:
        it.say(4, SEALED, software="9")
    named = {(f.chain_id, f.seq) for f in (await estate.verified()).findings if f.kind in ("leaf", "prev", "hash")}
    assert set(check_database(file, str(KEY.public))["bad"]) == named == {(SEALED, 4), (SEALED, 5)}


async def test_what_can_not_be_proven_is_said(estate: Estate) -> None:
    async with estate.store() as store:
        newest = await store.newest_seal()
        note = read_note(newest.note, "old.note")
        larger = read_note(newest.note.replace(f"\n{newest.size}\n", "\n999\n"), "larger.note")
        strange = read_note(newest.note.replace(f"\n{newest.size}\n", "\n7\n"), "strange.note")

        with pytest.raises(NotFound, match="no chain"):
            await prove(store, "pay-none")
        with pytest.raises(InvalidInput, match="not sealed yet"):
            await prove(store, TAIL)
        with pytest.raises(InvalidInput, match=r"larger\.note: is larger than the log"):
            await prove(store, SEALED, [("larger.note", larger)])
        with pytest.raises(InvalidInput, match=r"strange\.note: was put over other leaves"):
            await prove(store, SEALED, [("strange.note", strange)])
        assert await prove(store, SEALED, [("old.note", note)])

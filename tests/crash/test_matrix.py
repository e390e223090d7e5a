"""SIGKILL before and after every durable boundary, on both databases: another process finishes all of it."""

import asyncio
import contextlib
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.crash.cells import CELLS, WORKER, Host, name_of
from tests.crash.estate import Estate, Key, account_of, run_estate
from tests.crash.fleet import FULL, until
from tests.integration.store.conftest import new_schema, outside_loop, postgresql_url, sqlite_template
from tests.support.quality import row

__all__ = ["sqlite_template"]

pytestmark = pytest.mark.timeout(300)

LIFE_S = float(WORKER["claim_life_s"])
AIM_S = LIFE_S + 2.0
GRID: list[Key] = [(number, moment) for number, cell in enumerate(CELLS) for moment in cell.moments]


class Matrix(Estate):
    """Every cell on one database."""

    findings: tuple[object, ...] = ()

    async def run(self) -> None:
        """Let every process die and every payment be finished; then look at everything."""
        for key in GRID:  # one after the other: whoever reaps, reaps everybody
            if self.cell(key).first is not None:
                await self.die_twice(key)
        async with self.orchestrator.worker():
            await asyncio.gather(*(self.die_and_be_inherited(key) for key in GRID))
            with contextlib.suppress(TimeoutError):  # each cell's own test says what is missing
                await until(self.all_as_they_must_end, every_s=0.1)
        self.findings = await self.reckoned()

    async def die_twice(self, key: Key) -> None:
        """Let a second process die over what a first one left."""
        await (await self.begin(key, first=True)).ended()
        payment = await self.payment(key)
        assert payment is not None
        assert payment.claimed_by is not None
        # Its life is over as soon as its last beat is long ago.
        await self.heir.real.beat(payment.claimed_by, now=self.orchestrator._clock.now() - timedelta(hours=1))
        await self.gone(key, await self.begin(key))

    async def die_and_be_inherited(self, key: Key) -> None:
        if key not in self.ended:
            async with self.room:
                await self.gone(key, await self.begin(key))
        await Host(self.orchestrator, self.cell(key), account_of(key)).say_it_again()
        self.heir.dead.add(account_of(key))


_PLAYED: dict[str, Matrix] = {}
"""By database: with tests in a random order pytest makes a fixture anew at each change of its parameter."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """All of a database's cells, run together: most of their time is spent waiting for claims to lapse."""
    if request.param in _PLAYED:
        return _PLAYED[request.param]
    directory = tmp_path_factory.mktemp("matrix")
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), directory / "payments.db")
        url = f"sqlite:///{directory / 'payments.db'}"
    else:
        host = request.getfixturevalue("postgresql_host")
        url = postgresql_url(host, outside_loop(new_schema(host)), "asyncpg")
    began = time.monotonic()
    with ThreadPoolExecutor(1) as aside:  # where no test's loop is
        made = aside.submit(asyncio.run, run_estate(Matrix, "matrix", GRID, directory, url)).result()
    waits = [ended.recovered_s for ended in made.ended.values() if ended.recovered_s is not None]
    row(
        f"crash matrix, {request.param}", f"100 %, recovery within {AIM_S:g} s (claim life + 2 s)",
        f"{sum(good(made, key) for key in GRID)} of {len(GRID)} cells in {time.monotonic() - began:.0f} s,"
        f" {len(made.findings)} findings; recovery {max(waits):.2f} s at most, {sum(waits) / len(waits):.2f} s on"
        " average",
    )  # fmt: skip
    _PLAYED[request.param] = made
    return made


def good(made: Matrix, key: Key) -> bool:
    ended = made.ended[key]
    return ended.status == -signal.SIGKILL and ended.outcome == made.cell(key).end(key[1])


@pytest.mark.parametrize("key", GRID, ids=lambda key: name_of(CELLS[key[0]], key[1]))
def test_whatever_a_process_dies_of_at_a_boundary_another_finishes_its_payment(matrix: Matrix, key: Key) -> None:
    ended = matrix.ended[key]

    assert ended.status == -signal.SIGKILL, ended.log[-4000:]
    assert ended.outcome == matrix.cell(key).end(key[1])
    if ended.recovered_s is not None and FULL:
        assert ended.recovered_s <= AIM_S


def test_the_trail_of_all_these_deaths_has_nothing_wrong_in_it(matrix: Matrix) -> None:
    assert matrix.findings == ()
    assert max(matrix.sandbox.stats()["digital_sessions_per_reference"].values()) == 1
    assert sum(ended.recovered_s is not None for ended in matrix.ended.values()) > len(GRID) // 2

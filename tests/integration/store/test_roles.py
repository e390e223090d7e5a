"""Each role may do what the documented table says, and the engine, the seal and the examiner work as theirs."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from orchestrator import Orchestrator
from orchestrator.audit import verify
from orchestrator.audit.export import export
from orchestrator.audit.sealer import Sealer
from orchestrator.clock import SystemClock
from orchestrator.compliance import Closing
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.privacy.signing import new_key_line, signing_keys
from orchestrator.sandbox import Sandbox, SandboxOptions
from orchestrator.store import SqlStore, migrate
from orchestrator.store.access import Database
from orchestrator.store.grants import grant_findings
from orchestrator.store.install import install_roles
from orchestrator.store.roles import LOCK, OWNER, RIGHTS, ROLES, names, script, statements
from orchestrator.store.schema import OWN_TABLES
from orchestrator.store.views import VIEWS
from tests.crash.cells import settings_of, write_key
from tests.integration.store.conftest import direct_only, new_schema, postgresql_url
from tests.integration.store.makers import at, birth, context, held
from tests.support.flow import submit

pytestmark = direct_only
DENIED = "42501"
STEPS = ("authorize", "start_session", "hand_over")


@dataclass
class Place:
    """A schema with roles of its own, and a login user for each."""

    host: str
    schema: str
    prefix: str

    @property
    def admin(self) -> str:
        return postgresql_url(self.host, self.schema)

    def url(self, role: str) -> str:
        return postgresql_url(self.host, f"{self.prefix}_login_{role}")

    async def connect(self, role: str) -> asyncpg.Connection:
        return await asyncpg.connect(host=self.host, user=f"{self.prefix}_login_{role}", database="postgres")

    async def run(self, *statements: str) -> None:
        connection = await asyncpg.connect(host=self.host, user=self.schema, database="postgres")
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    async def findings(self) -> list[str]:
        database = Database(self.admin)
        found = list(await database.read(grant_findings))
        await database.close()
        return found


@pytest.fixture
async def place(postgresql_host: str) -> AsyncIterator[Place]:
    made = Place(postgresql_host, await new_schema(postgresql_host), f"r{uuid.uuid4().hex[:12]}")
    assert await made.findings() == [], "roles that are not in use are no finding"
    await install_roles(made.admin, made.prefix, context(actor="dba"), reason="a new system")
    named = names(made.prefix)
    for role, name in named.items():
        login = f"{made.prefix}_login_{role}"
        await made.run(
            f"create role {login} login in role {name}", f"alter role {login} set search_path to {made.schema}"
        )
    yield made
    logins = ", ".join(f"{made.prefix}_login_{role}" for role in named)
    roles = ", ".join(named.values())
    await made.run(
        "begin", f"select pg_advisory_xact_lock({LOCK})", f"drop schema {made.schema} cascade",
        f"drop owned by {roles}", f"drop role {logins}, {roles}", "commit",
    )  # fmt: skip


def verbs(name: str, column: str) -> dict[str, str]:
    return {
        "SELECT": f"select 1 from {name} limit 1",
        "INSERT": f"insert into {name} default values",
        "UPDATE": f"update {name} set {column} = default where false",
        "DELETE": f"delete from {name} where false",
        "TRUNCATE": f"truncate {name}",
    }


async def refused(connection: asyncpg.Connection, statement: str) -> str | None:
    """Give the SQLSTATE with which a statement is refused; nothing of it stays."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except asyncpg.PostgresError as error:
        return str(error.sqlstate)
    finally:
        await transaction.rollback()
    return None


@pytest.mark.parametrize("role", ROLES)
async def test_every_verb_on_every_table_and_view_is_what_the_table_says(place: Place, role: str) -> None:
    connection = await place.connect(role)
    found: dict[str, set[str]] = {}
    for name in sorted({*OWN_TABLES, *VIEWS}):
        column = await connection.fetchval(
            "select attname from pg_attribute where attrelid = $1::text::regclass and attnum > 0 and attgenerated = ''"
            " order by attnum limit 1", f"{place.schema}.{name}",
        )  # fmt: skip
        # What is no plain view can't be written to by anybody, whatever is granted: 55000 and 42809.
        states = {verb: await refused(connection, text) for verb, text in verbs(name, column).items()}
        found[name] = {verb for verb, state in states.items() if state not in (DENIED, "55000", "42809")}
        if role == OWNER:
            # What the owner may do, the triggers still refuse.
            assert name in VIEWS or DENIED not in states.values()
    if role != OWNER:
        assert {name: verbs for name, verbs in found.items() if verbs} == RIGHTS[role]
    await connection.close()


BEYOND = {
    "a trigger is switched off": "alter table audit_entry disable trigger tr_audit_entry_append_only",
    "a trigger is dropped": "drop trigger tr_audit_entry_append_only on audit_entry",
    "a column comes": "alter table payment add column note text",
    "a table goes": "drop table checkpoint cascade",
    "a trigger is made": (
        "create trigger mine before insert on audit_entry for each row execute function orchestrator_refuse()"
    ),
    "a function is replaced": (
        "create or replace function orchestrator_refuse() returns trigger language plpgsql"
        " as $$ begin return old; end $$"
    ),
    "numbers go back": "select setval('notification_id_seq', 1)",
}


@pytest.mark.parametrize("role", ROLES)
async def test_only_the_owner_changes_the_schema_and_nobody_switches_triggers_off_for_a_session(
    place: Place, role: str
) -> None:
    connection = await place.connect(role)
    for what, statement in BEYOND.items():
        state = await refused(connection, statement)
        assert state == (None if role == OWNER else DENIED), what
    assert await refused(connection, "set session_replication_role = replica") == DENIED
    assert await refused(connection, f"set role {names(place.prefix)[OWNER]}") == (None if role == OWNER else DENIED)
    await connection.close()


LIES = (
    "update audit_entry set actor = 'x'", "delete from audit_entry", "truncate audit_entry cascade",
    "delete from log_leaf", "update checkpoint set note = 'x'", "delete from incarnation", "delete from schema_record",
)  # fmt: skip


async def test_even_the_owners_lies_are_refused_by_the_triggers(place: Place) -> None:
    await worked(place)
    connection = await place.connect(OWNER)
    for lie in LIES[:3]:
        assert await refused(connection, lie) == "23001"
    await connection.close()


async def worked(place: Place) -> None:
    """Do as the engine does, as the writer."""
    async with SqlStore(place.url("writer")) as store:
        await store.register("w1", origin="h", version="1", now=at(0))
        await store.publish_definition("d1", "authorize.xml", "<x/>", context=context())
        await store.submit(birth())
        [claimed] = await store.claim("w1", now=at(1), limit=1, accounts=["emea"], machine_versions=[1])
        stored = await store.record(held(claimed, *STEPS, due=at(9)))
        assert stored.version == 1 + len(STEPS)
        assert await store.postpone(stored, at(10), keep_claim=False)
        await store.take_notifications(
            "w1", events=["completed"], now=at(9), limit=9, accounts=["emea"]
        )  # fmt: skip
        assert await store.beat("w1", now=at(2))
        await store.reap(lapsed_before=at(-9), now=at(2), jitter_s=1, limit=9)
        assert await store.pause_account("emea", reason="why", context=context())
        assert await store.resume_account("emea", reason="why", context=context())
        assert await store.fail_control("seal", "why", context())
        await store.lag()
        await store.retire("w1", now=at(3))
        assert (await verify(store)).clean


async def test_the_engine_works_as_the_writer(place: Place, tmp_path: Path) -> None:
    write_key(tmp_path)
    async with Sandbox(SandboxOptions(speed=20)) as sandbox:
        settings = settings_of(tmp_path, place.url("writer"), sandbox.base_url, ["test"])
        async with Orchestrator(settings) as orchestrator, orchestrator.worker():
            payment = await submit(orchestrator, "PAID-1", "digital")
            assert (await orchestrator.wait(payment.id, timeout=60)).outcome == "paid"
            assert (await orchestrator.health()).colour is not None


def sealer_of(store: SqlStore) -> Sealer:
    keys = signing_keys(new_key_line("test"))
    clock = SystemClock()
    return Sealer(store, keys, "test", [], clock, lambda: Context(clock.now(), "sealer", "host:1"))


async def test_the_seal_works_as_the_sealer_and_as_nobody_else(place: Place) -> None:
    await worked(place)
    store = SqlStore(place.url("sealer"))
    await store.open(notes_only=True)
    made = await sealer_of(store).seal()
    assert made is not None
    assert made.size >= 8
    assert await store.fail_control("export", "why", context())
    with pytest.raises(ConfigurationError, match="rights"):
        await store.submit(birth("MINE"))
    with pytest.raises(ConfigurationError, match="rights"):
        await store.sealed(birth().decision.payment.id)
    await store.close()
    with pytest.raises(ConfigurationError, match="right to write"):
        await SqlStore(place.url("sealer")).open()
    async with SqlStore(place.url("writer")) as writer:
        with pytest.raises(ConfigurationError, match="rights"):
            await sealer_of(writer).seal()


async def test_an_examiner_verifies_exports_and_closes_failures_and_sees_no_payer(place: Place, tmp_path: Path) -> None:
    await worked(place)
    store = SqlStore(place.url("examiner"))
    await store.open(notes_only=True)
    assert (await verify(store)).clean
    seen: list[int] = []

    async def told(exported: object) -> None:
        seen.append(exported.entries)  # type: ignore[attr-defined]
        await store.note("audit.exported", about="trail", context=context(actor="auditor"))

    await export(store, tmp_path / "trail.jsonl", told)
    [failure] = await store.failures(only_open=True)
    await store.close_failure(failure.id, Closing(at(9), "a", "b", "c", "d"), context(actor="auditor"))
    with pytest.raises(ConfigurationError, match="rights"):
        await store.sealed(birth().decision.payment.id)
    with pytest.raises(ConfigurationError, match="rights"):
        await store.submit(birth("MINE"))
    await store.close()
    assert seen[0] >= 8


async def test_an_auditor_reads_the_views_and_opens_nothing_else(place: Place) -> None:
    await worked(place)
    connection = await place.connect("auditor")
    assert await connection.fetchval("select count(*) from v_payment") == 1
    assert await connection.fetchval("select count(*) from v_timeline") == 1 + len(STEPS)
    await connection.close()
    reader = SqlStore(place.url("auditor"))
    with pytest.raises(ConfigurationError, match="rights"):
        await reader.open(to_write=False)


async def test_the_owner_upgrades_and_checks(place: Place) -> None:
    assert (await migrate.upgrade(place.url(OWNER))).fine
    assert (await migrate.check(place.url(OWNER))).fine


async def test_installing_again_changes_nothing_and_leaves_an_entry_each_time(place: Place) -> None:
    assert await place.findings() == []
    await install_roles(place.admin, place.prefix, context(1, actor="dba"), reason="again")
    assert await place.findings() == []
    async with SqlStore(place.admin) as store:
        entries = await store.noted(["roles.granted"], since=at(0))
        assert [(entry.actor, entry.about, entry.result) for entry in entries] == [("dba", place.prefix, "success")] * 2
        assert '"reason":"again"' in entries[1].body
        assert (await verify(store)).clean


async def test_the_printed_script_does_the_same(place: Place) -> None:
    await place.run(f"grant update on audit_entry to {place.prefix}_writer", "grant select on payment to public")
    assert len(await place.findings()) == 2
    await place.run(script(place.prefix))
    assert await place.findings() == []


SURPLUS = {
    "grant update on audit_entry to {p}_writer": "{p}_writer may UPDATE audit_entry",
    "grant select on payer_data to public": "everybody may SELECT payer_data",
    "grant delete on checkpoint to {p}_login_auditor": "{p}_login_auditor may DELETE checkpoint",
    "grant update (actor) on audit_entry to {p}_writer": "{p}_writer may UPDATE audit_entry.actor",
    "grant usage on sequence notification_id_seq to {p}_writer": "{p}_writer may USAGE notification_id_seq",
    "grant select on audit_entry to {p}_sealer with grant option": "{p}_sealer may pass on SELECT audit_entry",
    "revoke insert on audit_entry from {p}_writer": "{p}_writer may not INSERT audit_entry",
    "revoke select on v_payment from {p}_auditor": "{p}_auditor may not SELECT v_payment",
    "alter table payment owner to {p}_login_writer": "payment belongs to {p}_login_writer, not to {p}_owner",
    "grant {p}_owner to {p}_writer": "{p}_writer is a member of {p}_owner",
    "grant create on schema {s} to {p}_writer": "{p}_writer may make tables in the schema",
    "alter role {p}_writer login": "{p}_writer may log in",
    "alter role {p}_writer superuser": "{p}_writer is above all grants",
}


@pytest.mark.parametrize("statement", SURPLUS)
async def test_a_grant_that_is_missing_or_too_much_is_a_finding(place: Place, statement: str) -> None:
    words = {"p": place.prefix, "s": place.schema}
    await place.run(statement.format(**words))
    expected = f"grant: {SURPLUS[statement].format(**words)}"
    assert expected in await place.findings()
    assert expected in (await migrate.check(place.admin)).drift
    reader = SqlStore(place.admin)
    await reader.open(to_write=False)
    assert ("schema", expected) in {(finding.kind, finding.what) for finding in (await verify(reader)).findings}
    await reader.close()


async def test_who_may_not_install_roles_changes_nothing(place: Place) -> None:
    with pytest.raises(ConfigurationError, match="rights"):
        await install_roles(place.url("writer"), f"{place.prefix}x", context(actor="dba"), reason="why")
    connection = await place.connect("writer")
    assert await connection.fetchval("select count(*) from pg_roles where rolname like $1", f"{place.prefix}x%") == 0
    await connection.close()


@pytest.mark.parametrize("prefix", ["", "Upper", "1st", "a b", "x'; drop table payment; --", "x" * 42, "é"])
def test_a_prefix_that_is_no_name_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidInput, match="--prefix"):
        statements(prefix)


async def test_a_file_has_no_roles(sqlite_url: str) -> None:
    with pytest.raises(InvalidInput, match="SQLite file"):
        await install_roles(sqlite_url, "orchestrator", context(), reason="why")
    database = Database(sqlite_url)
    assert list(await database.read(grant_findings)) == []
    await database.close()

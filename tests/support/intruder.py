"""
Somebody with all rights on a database: guards taken off, rows changed at will, on both databases.

What this does is what `audit verify` must see.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from orchestrator.domain.entry import canonical
from orchestrator.store.access import Database

_GUARDS = """
select format('drop trigger %I on %I', t.tgname, c.relname)
from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = current_schema() and not t.tgisinternal
union all
select format('alter table %I drop constraint %I', c.relname, k.conname)
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = current_schema() and k.contype in ('c', 'f')
"""


class Intruder:
    """A plain connection, its guards taken off; `?` stands for a value."""

    def __init__(self, connection: Any, mark: str) -> None:
        self._connection = connection
        self._mark = mark

    def sql(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        return self._connection.execute(statement.replace("?", self._mark), values)

    def entry(self, seq: int, chain: str) -> dict[str, Any]:
        columns = "trigger, from_state, to_state, at, actor, origin, kind, result, about, prev_hash, hash, body"
        row = self.sql(f"select {columns} from audit_entry where chain_id = ? and seq = ?", (chain, seq)).fetchone()
        return dict(zip(columns.split(", "), row, strict=True))

    def last(self, chain: str) -> int:
        return int(self.sql("select max(seq) from audit_entry where chain_id = ?", (chain,)).fetchone()[0])

    def change(self, seq: int, chain: str, /, **columns: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in columns)
        self.sql(f"update audit_entry set {names} where chain_id = ? and seq = ?", (*columns.values(), chain, seq))

    def say(self, seq: int, chain: str, /, **members: Any) -> bytes:
        """Change members of a body and make the hash fit."""
        body = canonical(json.loads(self.entry(seq, chain)["body"]) | members)
        digest = hashlib.sha256(b"\0" + body.encode()).digest()
        self.change(seq, chain, body=body, hash=digest)
        return digest

    def relink(self, first: int, chain: str) -> None:
        """Make the entries from `first` on extend each other anew, and the payment point at the last."""
        for seq in range(first, self.last(chain) + 1):
            prev = bytes(self.entry(seq - 1, chain)["hash"])
            self.change(seq, chain, prev_hash=prev)
            self.say(seq, chain, prev=prev.hex())
        self.head(chain)

    def head(self, chain: str) -> None:
        """Make the payment point at its chain's last entry."""
        seq = self.last(chain)
        last = self.entry(seq, chain)
        self.sql(
            "update payment set version = ?, state = ?, head_hash = ? where id = ?",
            (seq, last["to_state"], last["hash"], chain),
        )

    def put(self, seq: int, chain: str, /, **members: Any) -> None:
        """Insert a copy of the entry before as number `seq`, in form."""
        entry = self.entry(seq - 1, chain)
        entry |= {"from_state": entry["to_state"], "prev_hash": bytes(entry["hash"])}
        entry |= {name: members.pop(name) for name in ("trigger", "kind") if name in members}
        told = json.loads(entry["body"]) | {
            "seq": seq, "from": entry["from_state"], "to": entry["to_state"], "trigger": entry["trigger"],
            "kind": entry["kind"], "prev": entry["prev_hash"].hex(), "facts": {},
        } | members  # fmt: skip
        entry["body"] = canonical(told)
        entry["hash"] = hashlib.sha256(b"\0" + entry["body"].encode()).digest()
        names, marks = ", ".join(("chain_id", "seq", *entry)), ", ".join("?" * (len(entry) + 2))
        self.sql(f"insert into audit_entry ({names}) values ({marks})", (chain, seq, *entry.values()))

    def forget(self, chain: str, first: int = 1) -> None:
        """Delete a chain's entries from `first` on; the log's rows stay."""
        self.sql("delete from unsealed where chain_id = ? and seq >= ?", (chain, first))
        self.sql("delete from audit_entry where chain_id = ? and seq >= ?", (chain, first))


@contextmanager
def intruder(url: str) -> Iterator[Intruder]:
    """Take every guard off a database."""
    database = Database(url)
    if database.file is not None:
        with closing(sqlite3.connect(database.file, isolation_level=None)) as connection:
            for (name,) in connection.execute("select name from sqlite_master where type = 'trigger'").fetchall():
                connection.execute(f"drop trigger {name}")
            connection.execute("pragma ignore_check_constraints = on")
            yield Intruder(connection, "?")
        return
    parts = database.url
    with psycopg.connect(
        host=str(parts.query["host"]), user=parts.username, dbname=parts.database, autocommit=True
    ) as connection:
        for (statement,) in connection.execute(_GUARDS).fetchall():
            connection.execute(statement)
        yield Intruder(connection, "%s")

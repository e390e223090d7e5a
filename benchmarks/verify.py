"""
How fast `audit verify` reads a large trail, and what memory it takes.

    python -m benchmarks.verify --entries 1000000

Builds a SQLite database of paid payments, six entries each, sealed and carried to a sink, without
waiting for commits; then verifies it in a process of its own. Prints one JSON line.
"""

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import resource
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.audit import verify
from orchestrator.audit.lines import checkpoint_line
from orchestrator.audit.log import Evidence
from orchestrator.audit.merkle import Log
from orchestrator.audit.notes import Checkpoint, signed_note
from orchestrator.domain import asking
from orchestrator.domain.entry import NO_HASH, canonical, instant
from orchestrator.domain.payment import Channel, Payment
from orchestrator.domain.starting import intend
from orchestrator.privacy.signing import SigningKey
from orchestrator.store import SqlStore, migrate
from orchestrator.store.rows import row_of, row_of_entry
from tests.unit.audit.tales import Tale
from tests.unit.domain.story import ANSWERED, OPENED, POLICIES, authorize, ctx, fresh, look, paid, start

KEY = SigningKey("bench", bytes(32))
SEAL_EVERY = 10_000


def template() -> Tale:
    payment = replace(fresh(Channel.PHONE), id="pay-template", account="emea", call_guid="template")
    begun = Tale(payment).tell(asking.submit, ctx(), POLICIES[Channel.PHONE])
    asked = begun.tell(authorize, ANSWERED, 0).tell(intend, ctx(), request_digest="r1")
    return asked.tell(start, OPENED).tell(look, paid())


def chain(number: int, entries: list[dict[str, Any]], payment: Payment) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Give the rows of one more payment: the template's, under a name of its own."""
    name, guid, reference, prev = f"pay-{number:012d}", f"guid-{number}", f"INV-{number}", NO_HASH
    rows = []
    for entry in entries:
        body = entry["told"] | {"chain": name, "about": name, "prev": prev.hex()}
        if "call_guid" in body["facts"]:
            body["facts"] = body["facts"] | {"call_guid": guid, "reference": reference}
        text = canonical(body)
        digest = hashlib.sha256(b"\0" + text.encode()).digest()
        row = entry["row"] | {"chain_id": name, "about": name, "prev_hash": prev, "hash": digest, "body": text}
        rows.append(row)
        prev = digest
    return rows, row_of(replace(payment, id=name, call_guid=guid, reference=reference, head=prev))


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: instant(value) if hasattr(value, "isoformat") else value for name, value in row.items()}


def fill(file: Path, sink: Path, count: int) -> None:
    """Write the payments, their log, its checkpoints."""
    told = template()
    entries = [entry for decision in told.decisions for entry in decision.entries]
    lines = [{"told": json.loads(entry.body), "row": plain(row_of_entry(entry))} for entry in entries]
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        triggers = connection.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"drop trigger {name}")
        (life,) = connection.execute("select id from incarnation").fetchone()
        connection.execute("begin")
        log = Log()
        for number in range(count // len(lines)):
            rows, payment = chain(number, lines, told.payment)
            insert(connection, "audit_entry", rows)
            insert(connection, "payment", [plain(payment)])
            leaves = [
                {"idx": log.size + at, "chain_id": row["chain_id"], "seq": row["seq"], "hash": row["hash"]}
                for at, row in enumerate(rows)
            ]
            insert(connection, "log_leaf", leaves)
            log.extend(row["hash"] for row in rows)
            if log.size % SEAL_EVERY < len(rows):
                seal(connection, sink, log, life)
        if log.size % SEAL_EVERY >= len(lines):
            seal(connection, sink, log, life)
        for _, sql in triggers:
            connection.execute(sql)
        connection.execute("commit")


def insert(connection: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    marks = ", ".join("?" * len(names))
    connection.executemany(
        f"insert into {table} ({', '.join(names)}) values ({marks})", [list(r.values()) for r in rows]
    )


def seal(connection: sqlite3.Connection, sink: Path, log: Log, life: str) -> None:
    note = signed_note(Checkpoint(f"bench/{life}", log.size, log.root), [KEY]).text
    row = {
        "size": log.size,
        "root": log.root,
        "nodes": log.packed,
        "note": note,
        "created_at": "2026-11-24T00:00:00.000000Z",
    }
    insert(connection, "checkpoint", [row])
    with sink.open("ab") as file:
        file.write(checkpoint_line(note) + b"\n")


def measured(file: Path, sink: Path, answer: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def work() -> dict[str, int]:
        store = SqlStore(f"sqlite:///{file}")
        try:
            report = await verify(store, evidence=Evidence([KEY.public], (), [sink]))
        finally:
            await store.close()
        return report.counts

    began, cpu = time.perf_counter(), time.process_time()
    counts = asyncio.run(work())
    took, used = time.perf_counter() - began, time.process_time() - cpu
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.put({
        "bench": "verify", "database": "sqlite", "entries": counts["entries"], "findings": counts["findings"],
        "seconds": round(took, 2), "cpu_s": round(used, 2), "entries_per_s": round(counts["entries"] / took),
        "entries_per_cpu_s": round(counts["entries"] / used),
        "rss_mb": round(after / 1024), "rss_before_mb": round(before / 1024),
    })  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="a directory to build in, or to find what was built")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        directory = words.keep or Path(place)
        file, sink = directory / "payments.db", directory / "sink"
        if not file.exists():
            asyncio.run(migrate.upgrade(f"sqlite:///{file}"))
            fill(file, sink, words.entries)
        context = multiprocessing.get_context("spawn")
        answer = context.Queue()
        process = context.Process(target=measured, args=(file, sink, answer))
        process.start()
        print(json.dumps(answer.get()))
        process.join()


if __name__ == "__main__":
    main()

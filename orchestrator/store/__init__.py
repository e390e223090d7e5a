"""
The database: the payments, their trail, and the rules that make it refuse a lie.

`SqlStore` implements `orchestrator.ports.Store` on SQLite and PostgreSQL. SQLAlchemy,
Alembic and the drivers live here and in `migrations/`. Knows the domain and the
ports, never the flow. Read in this order: `columns`, `rules`, `schema`, `guards`,
`guards_postgresql`, `views`, `ddl`, `inventory`, `engines`, `faults`, `rows`, `group`,
`access`, `hints`, `writes`, `claims`, `reads`, `notifications`, `admin`, `controls`, `seals`,
`ledger`, `reviews`, `host`, `store`, `identity`, `migrate`.
"""

from orchestrator.store.store import SqlStore

__all__ = ["SqlStore"]

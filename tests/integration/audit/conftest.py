"""The migrated, empty file that each test copies."""

from tests.integration.store.conftest import postgresql_host, sqlite_template

__all__ = ["postgresql_host", "sqlite_template"]

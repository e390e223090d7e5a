"""The migrated, empty file that each test copies."""

from tests.integration.store.conftest import sqlite_template

__all__ = ["sqlite_template"]

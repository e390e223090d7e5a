"""
What every file of ours has in common that must survive a power cut: its name is durable.

Owns that one step; who writes the file knows the rest. Knows nothing of ours.
"""

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """
    Make the names in a directory durable, where a directory can be opened for that.

    Raises:
        OSError: It can't be synced.

    Crash: before it, a file that was named or renamed there may be gone or have its former content.
    """
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

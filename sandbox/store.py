"""The sandboxes' storage: documents by kind and key, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Document = dict[str, Any]

_TABLE = """
CREATE TABLE IF NOT EXISTS documents (
  number INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, content TEXT NOT NULL,
  UNIQUE (kind, key)
)
"""
_PUT = """
INSERT INTO documents (kind, key, content) VALUES (?, ?, ?)
ON CONFLICT (kind, key) DO UPDATE SET content = excluded.content
"""

_OWNER_ALONE, _OWNER_READS_AND_WRITES = 0o700, 0o600


def make_private_folder(folder: Path) -> None:
    """Make a folder that its owner alone opens, or have one that is there be so."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=_OWNER_ALONE, exist_ok=True)
    folder.chmod(_OWNER_ALONE)


class Store:
    """Documents that outlive a restart. Safe to use from many threads."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the file, or keep everything in memory where there is none.

        The file is for its owner alone, one from an older release too: it contains names of payers
        and amounts. SQLite's files beside it have the same permissions.
        """
        if path is not None:
            path.touch(mode=_OWNER_READS_AND_WRITES)
            for each in (path, *path.parent.glob(f"{path.name}-*")):
                each.chmod(_OWNER_READS_AND_WRITES)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            path or ":memory:", check_same_thread=False, isolation_level=None
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(_TABLE)
        self.prefix = ""

    def part(self, name: str) -> Store:
        """Return a part of the store: its documents are apart from all others, of any kind."""
        part = copy(self)
        part.prefix = f"{self.prefix}{name}/"
        return part

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def put(self, kind: str, key: str, document: Document) -> None:
        """Keep a document, in place of the one of that key."""
        with self._lock:
            self._connection.execute(_PUT, (self.prefix + kind, key, json.dumps(document)))

    def get(self, kind: str, key: str) -> Document | None:
        """Return a document, or None."""
        with self._lock:
            row = self._connection.execute(
                "SELECT content FROM documents WHERE kind = ? AND key = ?",
                (self.prefix + kind, key),
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def put_first(self, kind: str, key: str, make: Callable[[], Document]) -> tuple[Document, bool]:
        """Return the document of that key, created if missing, and whether it was created."""
        with self.changing():
            known = self.get(kind, key)
            if known is not None:
                return known, False
            made = make()
            self.put(kind, key, made)
            return made, True

    def change(self, kind: str, key: str, change: Callable[[Document], object]) -> Document:
        """Change a document in place, atomically; return it.

        Raises KeyError where there is none.
        """
        with self.changing():
            document = self.get(kind, key)
            if document is None:
                raise KeyError(key)
            change(document)
            self.put(kind, key, document)
            return document

    def find(self, kind: str, **values: object) -> list[Document]:
        """Return the documents of a kind that have these values at the top, oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT content FROM documents WHERE kind = ? ORDER BY number",
                (self.prefix + kind,),
            ).fetchall()
        found = [json.loads(row[0]) for row in rows]
        return [one for one in found if all(one.get(name) == values[name] for name in values)]

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Lock out all other writers while several documents change."""
        with self._lock:
            yield

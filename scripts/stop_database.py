"""Stop the built-in database of a data folder, or remove it: `make clean`."""

from __future__ import annotations

import sys
from pathlib import Path

from db.embedded.server import EmbeddedPostgresError, remove, stop


def main() -> None:
    """Stop the database of the folder that is named; with "yes" after it, remove it too."""
    folder, removes = Path(sys.argv[1]), sys.argv[2:] == ["yes"]
    try:
        if removes:
            remove(folder)
        else:
            stop(folder)
    except EmbeddedPostgresError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

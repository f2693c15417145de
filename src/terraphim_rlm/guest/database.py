"""A SQLite input as a connection that can only read."""

from .library import load

_MOST_SHOWN = 100


def open_database(data, path):
    """A connection to the database in `data`, in memory. Writing raises sqlite3.OperationalError.

    Rejected: opening the memory file by its name below /proc. SQLite follows that link to a name that is no file.
    """
    sqlite3 = load("sqlite3")

    class Database(sqlite3.Connection):
        """`context.execute(sql)` gives rows; `context.tables()` names what there is; `context.bytes` is the file."""

        def tables(self):
            """Table or view -> its columns."""
            names = [
                row[0]
                for row in self.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
            ]
            return {
                name: [row[1] for row in self.execute("PRAGMA table_info(" + _quoted(name) + ")")]
                for name in names
            }

        def __repr__(self):
            names = list(self.tables())
            return f"<Database {self.path!r}: {', '.join(names[:_MOST_SHOWN])}; context.execute(sql), context.tables()>"

    base = sqlite3.connect(":memory:", factory=Database, check_same_thread=False)
    if not hasattr(base, "deserialize"):
        raise RuntimeError(
            "reading a database needs Python 3.11 in the sandbox; hand over its tables as JSON lines"
        )
    base.deserialize(data)
    base.bytes, base.path = data, path
    base.execute("PRAGMA query_only = ON")
    return base


def _quoted(name):
    return '"' + name.replace('"', '""') + '"'

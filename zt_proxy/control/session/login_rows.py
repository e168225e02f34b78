"""The tables of logins under way, as the SQLite store works on them. Each function is one transaction's work."""

import sqlite3

from zt_proxy.control.session.store import CodeRow, TransactionRow

_TRANSACTION = "state_hash, browser, client, expires, blob"


def put_code(db: sqlite3.Connection, row: CodeRow) -> None:
    """See `SessionStore.put_code`."""
    db.execute("INSERT INTO codes VALUES (?, ?, ?)", (row.code_hash, row.expires, row.blob))


def take_code(db: sqlite3.Connection, code_hash: bytes) -> CodeRow | None:
    """See `SessionStore.take_code`."""
    row = db.execute("DELETE FROM codes WHERE code_hash=? RETURNING code_hash, expires, blob", (code_hash,)).fetchone()
    return CodeRow(*row) if row else None


def put_transaction(db: sqlite3.Connection, row: TransactionRow, *, total: int, per_client: int, now: float) -> bool:
    """See `SessionStore.put_transaction`."""
    db.execute("DELETE FROM transactions WHERE expires<=?", (now,))
    mine = _pending(db, row.client)
    if mine >= per_client:
        _evict(db, row.client, mine - per_client + 1)
    elif db.execute("SELECT COUNT(*) FROM transactions").fetchone()[0] >= total:
        client, most = db.execute(
            "SELECT client, COUNT(*) AS most FROM transactions GROUP BY client ORDER BY most DESC LIMIT 1"
        ).fetchone()
        # Whoever fills the table pays for it; an honest person's only login never gives way to another's.
        if most < 2:
            return False
        _evict(db, client, 1)
    db.execute(
        f"INSERT INTO transactions ({_TRANSACTION}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608
        (row.state_hash, row.browser, row.client, row.expires, row.blob),
    )
    return True


def take_transaction(db: sqlite3.Connection, state_hash: bytes, browser: bytes) -> TransactionRow | None:
    """See `SessionStore.take_transaction`."""
    row = db.execute(
        f"DELETE FROM transactions WHERE state_hash=? AND browser=? RETURNING {_TRANSACTION}",  # noqa: S608
        (state_hash, browser),
    ).fetchone()
    return TransactionRow(*row) if row else None


def transaction(db: sqlite3.Connection, state_hash: bytes, browser: bytes) -> TransactionRow | None:
    """See `SessionStore.transaction`."""
    row = db.execute(
        f"SELECT {_TRANSACTION} FROM transactions WHERE state_hash=? AND browser=?",  # noqa: S608
        (state_hash, browser),
    ).fetchone()
    return TransactionRow(*row) if row else None


def has_transaction(db: sqlite3.Connection, state_hash: bytes) -> bool:
    """See `SessionStore.has_transaction`."""
    return db.execute("SELECT 1 FROM transactions WHERE state_hash=?", (state_hash,)).fetchone() is not None


def sweep(db: sqlite3.Connection, now: float) -> None:
    """Delete what is past its time."""
    db.execute("DELETE FROM codes WHERE expires<=?", (now,))
    db.execute("DELETE FROM transactions WHERE expires<=?", (now,))


def _pending(db: sqlite3.Connection, client: str) -> int:
    count: int = db.execute("SELECT COUNT(*) FROM transactions WHERE client=?", (client,)).fetchone()[0]
    return count


def _evict(db: sqlite3.Connection, client: str, rows: int) -> None:
    db.execute(
        "DELETE FROM transactions WHERE number IN "
        "(SELECT number FROM transactions WHERE client=? ORDER BY number LIMIT ?)",
        (client, rows),
    )

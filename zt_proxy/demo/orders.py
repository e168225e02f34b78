"""Old orders of the demo app, made anew at each start and always the same: something to export, and to mask."""

from __future__ import annotations

import random
from functools import lru_cache

MOST_YEARS = 12
A_YEAR = 4_000
"""Orders: about half a megabyte of JSON."""

_ITEMS = ("Standing desk", "Barcode scanner", "Label printer", "Pallet", "Scale", "Forklift battery", "Shelf", "Gloves")


@lru_cache
def old_orders(years: int) -> list[dict[str, object]]:
    """Orders of so many years, the newest first. `account` is an IBAN whose check digits are right (ISO 13616)."""
    return [order for year in range(2026, 2026 - years, -1) for order in _year(year)]


@lru_cache
def _year(year: int) -> tuple[dict[str, object], ...]:
    chance = random.Random(year)  # noqa: S311 - the same orders at each start, and nothing depends on them
    return tuple(
        {
            "order": f"{year}-{number:04}",
            "item": chance.choice(_ITEMS),
            "amount": chance.randrange(5, 5_000),
            "account": _iban(chance.randrange(10**18)),
            "paid": f"{year}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}",
        }
        for number in range(1, A_YEAR + 1)
    )


def _iban(account: int) -> str:
    rest = f"{account:018}"
    return f"DE{98 - int(rest + '131400') % 97:02}{rest}"

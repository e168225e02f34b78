"""The demo app's data, in memory: records, the form they are made with, and what happened."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeGuard

from zt_proxy.core.clock import Clock

FIELD_TYPES: Final = ("text", "number", "date", "yes-no")
MAX_FIELDS = 12
MAX_RECORDS = 500
MAX_TEXT = 200
KEPT_EVENTS = 50


class Invalid(Exception):
    """What a client sent does not fit; the text is for the person."""


class Stale(Exception):
    """The form was deployed by someone else since it was read; the text is for the person."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form: a name for machines, a label for people, and a type of `FIELD_TYPES`."""

    name: str
    label: str
    type: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `at` is Unix seconds."""

    kind: str
    text: str
    who: str
    at: float


_FIRST_FIELDS = (
    Field("item", "Item", "text"),
    Field("requested_by", "Requested by", "text"),
    Field("amount", "Amount (EUR)", "number"),
    Field("needed_by", "Needed by", "date"),
    Field("approved", "Approved", "yes-no"),
)
_FIRST_RECORDS: tuple[dict[str, str], ...] = (
    {
        "item": "Standing desk",
        "requested_by": "Vera Voss",
        "amount": "549",
        "needed_by": "2027-02-01",
        "approved": "yes",
    },
    {
        "item": "Barcode scanner",
        "requested_by": "Max Meyer",
        "amount": "189",
        "needed_by": "2027-01-15",
        "approved": "no",
    },
    {
        "item": "Label printer",
        "requested_by": "Rita Roth",
        "amount": "310",
        "needed_by": "2027-01-20",
        "approved": "yes",
    },
)


class AppState:
    """Records, form and events; every change is told to who listens."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.fields: tuple[Field, ...] = _FIRST_FIELDS
        self.version = 1
        self.records: dict[int, dict[str, str]] = {}
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._next = 1
        self._listeners: set[asyncio.Queue[Event]] = set()
        for record in _FIRST_RECORDS:
            self._store(record)

    def _store(self, record: dict[str, str]) -> int:
        number, self._next = self._next, self._next + 1
        self.records[number] = record
        return number

    def rows(self) -> list[dict[str, Any]]:
        """All records with their ids, oldest first."""
        return [{"id": number, **record} for number, record in self.records.items()]

    def add(self, sent: object, who: str) -> dict[str, Any]:
        """A new record. Raises `Invalid`."""
        if len(self.records) >= MAX_RECORDS:
            raise Invalid(f"There are {MAX_RECORDS} records already; delete some first.")
        record = self._checked(sent)
        number = self._store(record)
        self.tell("record", f"added record {number}", who)
        return {"id": number, **record}

    def change(self, number: int, sent: object, who: str) -> dict[str, Any]:
        """Replace a record. Raises `Invalid`, and `KeyError` when there is none."""
        if number not in self.records:
            raise KeyError(number)
        self.records[number] = self._checked(sent)
        self.tell("record", f"changed record {number}", who)
        return {"id": number, **self.records[number]}

    def remove(self, number: int, who: str) -> None:
        """Delete a record. Raises `KeyError` when there is none."""
        del self.records[number]
        self.tell("record", f"deleted record {number}", who)

    def deploy(self, sent: object, who: str) -> int:
        """Make a new form the current one; gives its version. Raises `Invalid` and `Stale`."""
        if not _is_object(sent) or not isinstance(sent.get("fields"), list):
            raise Invalid("A form is a list of fields.")
        fields = tuple(_field(item) for item in sent["fields"])
        if not 1 <= len(fields) <= MAX_FIELDS:
            raise Invalid(f"A form has 1 to {MAX_FIELDS} fields.")
        if len({field.name for field in fields}) != len(fields):
            raise Invalid("Two fields have the same label.")
        if sent.get("version") != self.version:
            raise Stale(f"Version {self.version} was deployed meanwhile. Load the page again to see it.")
        self.fields, self.version = fields, self.version + 1
        self.tell("deploy", f"deployed version {self.version} of the form", who)
        return self.version

    def _checked(self, sent: object) -> dict[str, str]:
        if not _is_object(sent):
            raise Invalid("A record is a JSON object.")
        return {field.name: _value(field, sent.get(field.name, "")) for field in self.fields}

    def tell(self, kind: str, text: str, who: str) -> None:
        """Note an event and pass it to who listens; a listener too slow to take it misses it."""
        event = Event(kind, text, who, self._clock.now())
        self.events.append(event)
        for queue in self._listeners:
            if not queue.full():
                queue.put_nowait(event)

    def listen(self) -> asyncio.Queue[Event]:
        """A queue of the events from now on; give it back to `unlisten`."""
        queue: asyncio.Queue[Event] = asyncio.Queue(maxsize=100)
        self._listeners.add(queue)
        return queue

    def unlisten(self, queue: asyncio.Queue[Event]) -> None:
        """Stop filling `queue`."""
        self._listeners.discard(queue)

    def form(self) -> dict[str, Any]:
        """The current form as JSON."""
        return {"version": self.version, "fields": [asdict(field) for field in self.fields]}


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _field(item: object) -> Field:
    if not _is_object(item):
        raise Invalid("A field is a JSON object.")
    label, kind = item.get("label"), item.get("type")
    if not isinstance(label, str) or not 1 <= len(label.strip()) <= 40:
        raise Invalid("A label has 1 to 40 characters.")
    if kind not in FIELD_TYPES:
        raise Invalid(f"A field's type is one of: {', '.join(FIELD_TYPES)}.")
    name = "".join(sign if sign.isalnum() else "_" for sign in label.strip().lower())
    given = item.get("name")
    return Field(given if isinstance(given, str) and given.isidentifier() else f"f_{name}", label.strip(), kind)


def _value(field: Field, value: object) -> str:
    if not isinstance(value, str | int | float) or len(str(value)) > MAX_TEXT:
        raise Invalid(f"{field.label}: text of at most {MAX_TEXT} characters.")
    text = str(value).strip()
    if field.type == "number" and text:
        try:
            float(text)
        except ValueError:
            raise Invalid(f"{field.label}: a number, please.") from None
    if field.type == "yes-no" and text not in ("", "yes", "no"):
        raise Invalid(f"{field.label}: yes or no.")
    return text

"""What the operator's socket tells of people who have signed in, for questions such as who may do what.

GET /people?after=&limit=    {"at", "people", "following"}; a person is a KnownPerson
"""

from aiohttp import web

from zt_proxy.control.operator import answers
from zt_proxy.control.risk.people import PAGE, KnownPeople
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, Reason

DIGITS = 9
"""Longest `limit`; Python refuses to read numbers of thousands of digits (CVE-2020-10735)."""


class PeopleList:
    """`add_to` the operator's application."""

    def __init__(self, people: KnownPeople, clock: Clock) -> None:
        self._people = people
        self._clock = clock

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/people", self._list)

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        unknown = set(query) - {"after", "limit"}
        limit = query.get("limit", str(PAGE))
        if unknown or not limit.isdecimal() or len(limit) > DIGITS:
            raise ClientError(Reason.MALFORMED, f"cannot be asked for: {', '.join(sorted(unknown)) or 'limit'}")
        page = await self._people.page(query.get("after", ""), int(limit))
        return answers.json({"at": self._clock.now(), "people": page.people, "following": page.following})

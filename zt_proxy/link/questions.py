"""What a worker has asked control and not heard of yet."""

import asyncio
from collections.abc import Callable
from itertools import count

import msgspec

from zt_proxy.core.errors import Reason, UnavailableError
from zt_proxy.link.messages import LOOKUPS, Answer

Make = Callable[[int], msgspec.Struct]
"""A question with this number."""


class Questions:
    """Bounded by `LOOKUPS`; each is answered, or fails when the link breaks."""

    def __init__(self) -> None:
        self._open: dict[int, asyncio.Future[tuple[Answer, int]]] = {}
        self._ids = count(1)

    async def ask(self, send: Callable[[msgspec.Struct], None], make: Make) -> tuple[Answer, int]:
        """The answer, and how many invalidations had come before it. Raises UnavailableError(CONTROL_UNAVAILABLE)."""
        if len(self._open) >= LOOKUPS:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "too many look-ups at a time")
        number = next(self._ids)
        future: asyncio.Future[tuple[Answer, int]] = asyncio.get_running_loop().create_future()
        self._open[number] = future
        send(make(number))
        try:
            return await future
        finally:
            self._open.pop(number, None)

    def expects(self, answer: Answer) -> bool:
        """Somebody still waits for this."""
        future = self._open.get(answer.id)
        return future is not None and not future.done()

    def answered(self, answer: Answer, turns: int) -> None:
        self._open[answer.id].set_result((answer, turns))

    def broken(self) -> None:
        """No answer will come any more."""
        for future in self._open.values():
            if not future.done():
                future.set_exception(UnavailableError(Reason.CONTROL_UNAVAILABLE, "the link to control broke"))


def checked(answer: Answer) -> Answer:
    """The same. Raises UnavailableError if nobody could say."""
    if answer.fault:
        store = answer.fault == Reason.STORE_UNAVAILABLE.value
        raise UnavailableError(Reason.STORE_UNAVAILABLE if store else Reason.CONTROL_UNAVAILABLE, answer.detail)
    return answer

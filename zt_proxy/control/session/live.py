"""A session that control has in its hands."""

from zt_proxy.control.session.record import SessionRecord
from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Session


class Live:
    """A cached session: the sealed record's content, and the one thing about it that moves."""

    __slots__ = ("last_activity", "record")

    def __init__(self, record: SessionRecord, last_activity: float) -> None:
        self.record = record
        self.last_activity = last_activity

    def dead(self, now: float) -> Reason | None:
        """Why it is over at `now`; None while it lives."""
        if now >= self.record.absolute_deadline:
            return Reason.SESSION_EXPIRED
        if now >= self.last_activity + self.record.idle_timeout:
            return Reason.SESSION_IDLE
        return None

    def session(self, host: str) -> Session:
        """What workers may know of it."""
        record = self.record
        return Session(
            sid=record.sid,
            host=host,
            principal=record.principal,
            acr=record.acr,
            amr=record.amr,
            mfa=record.mfa,
            auth_time=record.auth_time,
            created=record.created,
            last_activity=self.last_activity,
            idle_timeout=record.idle_timeout,
            absolute_deadline=record.absolute_deadline,
            level=record.level,
            proofs=record.proofs,
            device_known=record.arrival.device_known,
            device=record.arrival.device,
            address=record.arrival.address,
            agent=record.arrival.agent,
            risk=record.risk,
            justified=record.justified,
            approved=record.approved,
            break_glass=record.break_glass,
        )

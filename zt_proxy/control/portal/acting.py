"""What every form of a person's own pages has to pass before it changes anything."""

from collections.abc import Mapping

from zt_proxy.control.factors.types import Person
from zt_proxy.control.portal.adopt import portal_proof
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.forms import FORM_BYTES, check_token, read_form, refuse_foreign
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.session import Level, Session

FRESH = 300.0
"""Seconds for which a proof lets its person remove factors, make new recovery codes, agree to what others want to do,
and break the glass.

It has to be as strong as one that adds a factor: who may take the passkey away with less would add their own next."""


async def acting(call: Call, back: str, limit: int = FORM_BYTES) -> tuple[Session, Mapping[str, str]]:
    """Whose form this is, and what is in it. `back`: the page that it is on.

    Raises ClientError: CROSS_ORIGIN for another page's or another session's form, LOGIN_REQUIRED without a session,
    MALFORMED, BODY_TOO_LARGE.
    """
    refuse_foreign(call, back)
    form = await read_form(call, limit)
    session = await call.session()
    if session is None:
        call.retry = ("Sign in", back)
        raise ClientError(Reason.LOGIN_REQUIRED, "no session at the portal", status=401)
    check_token(call, form, back)
    call.retry = ("Back", back)
    call.portal.sessions.activity(session.sid, call.portal.clock.now())
    return session, form


async def is_fresh(call: Call, session: Session) -> bool:
    """The person has just proved who they are, as strongly as they can here, and with two factors at least."""
    proof = portal_proof(call, session)
    if proof is None or call.portal.clock.now() - proof.at > FRESH:
        return False
    return proof.level >= max(Level.MULTI, await call.portal.factors.enrolment_level(Person.of(session.principal)))

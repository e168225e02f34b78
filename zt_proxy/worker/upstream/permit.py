"""Proof that a request may go upstream. `relay` takes nothing else, and only an ALLOW makes one."""

from enum import StrEnum

from zt_proxy.core.types import Decision, Effect


class Permitted:
    """A request that the policy allowed. Raises PermissionError when made from anything but an ALLOW, or from one that
    a proof has to be spent for first."""

    __slots__ = ("decision",)

    internal = False

    def __init__(self, decision: Decision) -> None:
        if decision.effect is not Effect.ALLOW:
            raise PermissionError(f"{decision.effect} is not a permission")
        if decision.spend:
            raise PermissionError("a proof that is good once has not been spent")
        self.decision = decision


class InternalPlace(StrEnum):
    """The closed list of what the proxy itself answers, through its portal, before any policy."""

    PORTAL_HOME = "/"
    RESUME = "/.zt/resume"
    SESSION_STATE = "/.zt/session"
    SESSION_JS = "/.zt/session.js"
    CONFIRMED = "/.zt/confirmed"
    JWKS = "/.zt/jwks.json"
    SIGN_OUT = "/.zt/sign-out"
    PORTAL_INDEX = "/.zt/"
    SIGN_IN = "/.zt/sign-in"
    CALLBACK = "/.zt/callback"
    SIGNED_OUT = "/.zt/signed-out"
    BACK_CHANNEL_LOGOUT = "/.zt/back-channel-logout"
    FRONT_CHANNEL_LOGOUT = "/.zt/front-channel-logout"
    ACTIVITY = "/.zt/activity"
    PREFLIGHT = "/.zt/preflight"
    KEEP = "/.zt/keep"
    ME = "/.zt/me"
    ME_END = "/.zt/me/end"
    ME_END_ALL = "/.zt/me/end-all"
    ME_DEVICE = "/.zt/me/device"
    ME_RENAME = "/.zt/me/rename"
    ME_REMOVE = "/.zt/me/remove"
    ME_CODES = "/.zt/me/codes"
    NOT_ME = "/.zt/not-me"
    CONFIRM = "/.zt/confirm"
    CONFIRM_OPTIONS = "/.zt/confirm/options"
    CONFIRM_PASSKEY = "/.zt/confirm/passkey"
    CONFIRM_CODE = "/.zt/confirm/code"
    ENROL = "/.zt/enrol"
    ENROL_OPTIONS = "/.zt/enrol/options"
    ENROL_PASSKEY = "/.zt/enrol/passkey"
    ENROL_TOTP = "/.zt/enrol/totp"
    ENROL_CODES = "/.zt/enrol/codes"
    ENROL_DONE = "/.zt/enrol/done"
    PORTAL_JS = "/.zt/portal.js"
    WHY = "/.zt/why"
    APPROVAL = "/.zt/approval"
    APPROVALS = "/.zt/approvals"
    BREAK_GLASS = "/.zt/break-glass"
    STEP_UP = "/.zt/step-up"


_ON_APP_HOSTS = {
    InternalPlace.RESUME: (b"GET",),
    InternalPlace.SESSION_JS: (b"GET", b"HEAD"),
    InternalPlace.CONFIRMED: (b"GET",),
    InternalPlace.SESSION_STATE: (b"GET",),
    InternalPlace.ACTIVITY: (b"POST",),
    InternalPlace.PREFLIGHT: (b"POST",),
    InternalPlace.JWKS: (b"GET", b"HEAD"),
    InternalPlace.SIGN_OUT: (b"GET",),
    InternalPlace.STEP_UP: (b"GET",),
}
_ON_PORTAL = {
    InternalPlace.PORTAL_HOME: (b"GET", b"HEAD"),
    InternalPlace.PORTAL_INDEX: (b"GET", b"HEAD"),
    InternalPlace.SIGN_IN: (b"GET", b"POST"),
    InternalPlace.CALLBACK: (b"GET",),
    InternalPlace.SESSION_STATE: (b"GET",),
    InternalPlace.JWKS: (b"GET", b"HEAD"),
    InternalPlace.SIGN_OUT: (b"GET", b"POST"),
    InternalPlace.SIGNED_OUT: (b"GET",),
    InternalPlace.BACK_CHANNEL_LOGOUT: (b"POST",),
    InternalPlace.FRONT_CHANNEL_LOGOUT: (b"GET",),
    InternalPlace.ME: (b"GET",),
    InternalPlace.ME_END: (b"POST",),
    InternalPlace.ME_END_ALL: (b"POST",),
    InternalPlace.ME_DEVICE: (b"POST",),
    InternalPlace.ME_RENAME: (b"POST",),
    InternalPlace.ME_REMOVE: (b"POST",),
    InternalPlace.ME_CODES: (b"POST",),
    InternalPlace.NOT_ME: (b"GET", b"POST"),
    InternalPlace.CONFIRM: (b"GET",),
    InternalPlace.CONFIRM_OPTIONS: (b"POST",),
    InternalPlace.CONFIRM_PASSKEY: (b"POST",),
    InternalPlace.CONFIRM_CODE: (b"POST",),
    InternalPlace.ENROL: (b"GET",),
    InternalPlace.ENROL_OPTIONS: (b"POST",),
    InternalPlace.ENROL_PASSKEY: (b"POST",),
    InternalPlace.ENROL_TOTP: (b"POST",),
    InternalPlace.ENROL_CODES: (b"POST",),
    InternalPlace.ENROL_DONE: (b"POST",),
    InternalPlace.PORTAL_JS: (b"GET",),
    InternalPlace.WHY: (b"GET", b"POST"),
    InternalPlace.APPROVAL: (b"GET", b"POST"),
    InternalPlace.APPROVALS: (b"GET", b"POST"),
    InternalPlace.BREAK_GLASS: (b"GET", b"POST"),
}
_APP_PLACES = {place.value.encode(): (place, methods) for place, methods in _ON_APP_HOSTS.items()}
_PORTAL_PLACES = {place.value.encode(): (place, methods) for place, methods in _ON_PORTAL.items()}


class Internal:
    """A request for one of the proxy's own places; made only by `internal` and `keeping`."""

    __slots__ = ("place",)

    internal = True

    def __init__(self, place: InternalPlace) -> None:
        self.place = place


def internal(path: bytes, method: bytes, *, portal: bool) -> Internal | None:
    """The permit for a place of the proxy, or None if there is no such place at this kind of host (ZT-APP-01)."""
    found = (_PORTAL_PLACES if portal else _APP_PLACES).get(path)
    if found is None or method not in found[1]:
        return None
    return Internal(found[0])


def keeping() -> Internal:
    """The permit to hand a form to the portal, which keeps it. No client can ask for this place."""
    return Internal(InternalPlace.KEEP)

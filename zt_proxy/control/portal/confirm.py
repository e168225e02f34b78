"""The page that asks for an own factor, and where its answers go (see `questions` for what may be asked).

A code is a plain form and works without script. A passkey needs one: `portal.js` asks for options, hands them to the
authenticator and sends back what it says. Both lead to the same place.
"""

import hashlib
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web

from zt_proxy.control.factors.types import Factor, FactorKind, FactorRefused, PasskeyChallenge
from zt_proxy.control.portal.answers import json_answer, page, redirect, script_file
from zt_proxy.control.portal.call import Call
from zt_proxy.control.portal.forms import check_token, form_token, read_form, refuse_foreign
from zt_proxy.control.portal.questions import (
    OwnQuestion,
    Question,
    open_question,
    origins_of,
    person_of,
    shown_name,
)
from zt_proxy.control.portal.sign_in import navigation_only, to_provider
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.session import Level
from zt_proxy.pages.texts import text_of

SCRIPT = files("zt_proxy.pages").joinpath("static/portal.js").read_bytes()
SCRIPT_URL = "/.zt/portal.js?v=" + hashlib.sha256(SCRIPT).hexdigest()[:16]
JSON_BYTES = 32 * 1024
"""A passkey's answer with its attestation takes a few kilobytes."""


class Sent(msgspec.Struct, frozen=True):
    """What the script sends back from an authenticator."""

    token: str
    credential: dict[str, Any]
    name: str = ""


_sent = msgspec.json.Decoder(Sent)


async def script(call: Call) -> web.StreamResponse:
    """GET /.zt/portal.js at the portal."""
    return script_file(call, SCRIPT)


async def read_json(call: Call, back: str) -> Sent:
    """What our own page's script sent. Raises ClientError(CROSS_ORIGIN, MALFORMED or BODY_TOO_LARGE) (ZT-DOS-14)."""
    refuse_foreign(call, back)
    if call.request.content_type != "application/json":
        raise ClientError(Reason.MALFORMED, "not JSON")
    body = bytearray()
    async for chunk in call.request.content.iter_chunked(JSON_BYTES):
        body += chunk
        if len(body) > JSON_BYTES:
            raise ClientError(Reason.BODY_TOO_LARGE, "the answer is too large", status=413)
    try:
        return _sent.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ClientError(Reason.MALFORMED, "not what the script sends") from error


def on_to(call: Call, location: str) -> web.Response:
    """Tells the script where to go."""
    return json_answer(call, msgspec.json.encode({"location": location}))


def challenge_answer(call: Call, challenge: PasskeyChallenge) -> web.Response:
    """For the script: the options as the authenticator takes them, and the token to send back."""
    given = {"options": msgspec.Raw(challenge.options_json.encode()), "token": challenge.token}
    return json_answer(call, msgspec.json.encode(given))


async def confirm(call: Call) -> web.StreamResponse:
    """GET /.zt/confirm?login=…|to=…|for=… at the portal: asks. Changes nothing."""
    navigation_only(call)
    try:
        question = await open_question(call)
    except ClientError as error:
        # Another tab was faster, or the person pressed "back": they are signed in, so nothing has failed (FIELD 8).
        if error.reason in {Reason.LOGIN_STATE_UNKNOWN, Reason.LOGIN_EXPIRED} and await call.session() is not None:
            return redirect(call, "/")
        raise
    usable = await _usable(call, question)
    if isinstance(question, OwnQuestion) and (not usable or call.query().get("with") == "provider"):
        return await _at_the_provider(call, question)
    return _page(call, question, usable)


async def _at_the_provider(call: Call, question: OwnQuestion) -> web.StreamResponse:
    provider = call.portal.providers.get(question.principal.provider)
    if provider is None:
        raise ClientError(Reason.PROVIDER_INVALID, "the provider of the session is no longer configured", status=400)
    return await to_provider(
        call,
        provider,
        None,
        force=True,
        login_hint=question.principal.email,
        level=question.level,
        own=question.page,
    )


async def options(call: Call) -> web.StreamResponse:
    """POST /.zt/confirm/options: what to hand to `navigator.credentials.get`."""
    refuse_foreign(call, "/")
    question = await open_question(call)
    challenge = await call.portal.factors.passkey_request(person_of(question), purpose=_purpose(question))
    return challenge_answer(call, challenge)


async def passkey(call: Call) -> web.StreamResponse:
    """POST /.zt/confirm/passkey: what the authenticator said. Gives the address to go on to."""
    sent = await read_json(call, "/")
    question = await open_question(call)
    try:
        proved = await call.portal.factors.verify_passkey(
            person_of(question), sent.token, sent.credential, purpose=_purpose(question)
        )
    except FactorRefused as refused:
        await _count(call, question, refused)
        raise
    return on_to(call, await question.settle(call, proved))


async def code(call: Call) -> web.StreamResponse:
    """POST /.zt/confirm/code: a one-time password or a recovery code. A wrong one asks again."""
    refuse_foreign(call, "/")
    form = await read_form(call)
    question = await open_question(call)
    if question.bound:
        check_token(call, form, "/.zt/confirm?" + question.query)
    if question.level > Level.MULTI and question.bound:
        raise ClientError(Reason.MFA_REQUIRED, "a code is not strong enough for this", status=403)
    try:
        proved = await call.portal.factors.verify_code(person_of(question), form.get("code", ""), call.client)
    except FactorRefused as refused:
        await _count(call, question, refused)
        return _page(call, question, await _usable(call, question), refused)
    return redirect(call, await question.settle(call, proved))


async def _count(call: Call, question: Question, refused: FactorRefused) -> None:
    """What was not even looked at is no wrong answer."""
    if refused.reason is Reason.FACTOR_WRONG:
        await call.portal.judge.failed(person_of(question), call.client)
        await question.failed(call)


def _purpose(question: Question) -> bytes:
    """What a passkey's challenge is good for: this question, of this session."""
    return hashlib.sha256(f"{question.sid}?{question.query}".encode()).digest()


async def _usable(call: Call, question: Question) -> list[Factor]:
    """The person's factors that help. A sign-in takes a weaker one, too: it opens the enrolment of a stronger one."""
    enough = question.level if question.bound else Level.MULTI
    factors = await call.portal.factors.of(person_of(question))
    return [factor for factor in factors if factor.usable and factor.level >= enough]


def _page(call: Call, question: Question, usable: list[Factor], refused: FactorRefused | None = None) -> web.Response:
    kinds = {factor.kind for factor in usable}
    handoff = question.handoff
    return page(
        call,
        "confirm.html",
        status=200 if refused is None else refused.status,
        form_action=origins_of(call, question),
        has_form=True,
        script=True,
        script_url=SCRIPT_URL,
        title=question.title,
        who=shown_name(question),
        host=handoff.host if handoff is not None else "",
        rule=handoff.rule if handoff is not None else "",
        request=handoff.request if handoff is not None else "",
        small=handoff is not None and handoff.window,
        step_up=question.bound,
        query=question.query,
        token=form_token(call),
        passkey=FactorKind.PASSKEY in kinds,
        totp=FactorKind.TOTP in kinds,
        recovery=FactorKind.RECOVERY in kinds,
        account=question.account,
        back=_back(call, question),
        wrong="" if refused is None else _wrong(refused),
    )


def _back(call: Call, question: Question) -> str:
    """Where somebody goes who does not want to confirm."""
    if question.handoff is not None:
        return call.portal.app(question.handoff.host).origin + "/"
    return "/" if question.bound else "/.zt/sign-in"


def _wrong(refused: FactorRefused) -> str:
    if refused.used:
        return "This code was used already. Wait for the next one."
    if refused.reason is Reason.FACTOR_LOCKED and refused.retry_after:
        return f"Too many wrong codes. Try again in {max(1, round(refused.retry_after / 60))} min."
    text = text_of(refused.reason)
    return f"{text.title}. {text.help}".strip()

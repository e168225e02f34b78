"""How long sessions last, how many there may be, and the mail about them."""

from zt_proxy.config import names, session_presets, units
from zt_proxy.config.certificates import check_authorities
from zt_proxy.config.check import Checking
from zt_proxy.config.schema_mail import Mail
from zt_proxy.control.devices.mail import plain_address
from zt_proxy.core.session import Level


def check(checking: Checking) -> None:
    _preset(checking)
    session = checking.schema.session
    if session.limit is None and session.written("limit_policy"):
        checking.problems.error(session.at("limit_policy"), "`limit_policy` without a `limit`", "`limit: N`")
    if checking.schema.mail is not None:
        _mail(checking, checking.schema.mail)


def _preset(checking: Checking) -> None:
    schema, problems = checking.schema, checking.problems
    session, preset = schema.session, session_presets.preset_of(schema.session)
    if preset is not None:
        for key in ("idle", "absolute"):
            most = getattr(preset, key)
            if session.written(key) and getattr(session, key) > most:
                problems.error(
                    session.at(key),
                    f"`{key}` is longer than `preset: {session.preset}` permits",
                    f"`{units.show_duration(most)}` or less",
                )
    if session_presets.least(session) is not Level.PHISHING_RESISTANT:
        return
    if schema.require.mfa not in {None, Level.PHISHING_RESISTANT.word}:
        problems.error(
            schema.require.at("mfa"),
            f"`{schema.require.mfa}` is less than `preset: {session.preset}` asks",
            f"`{Level.PHISHING_RESISTANT.word}`",
        )
    for name, provider in schema.identity.providers.items():
        if provider.insecure_no_mfa:
            problems.error(
                provider.at("insecure_no_mfa"),
                f"`insecure_no_mfa` of `{name}` contradicts `preset: {session.preset}`",
            )


def _mail(checking: Checking, mail: Mail) -> None:
    problems = checking.problems
    checking.not_zero(mail)
    bind = checking.attempt(mail.at("server"), names.bind, mail.server)
    if bind is not None and not bind[1]:
        problems.error(mail.at("server"), f"`{mail.server}` has no port")
    if not plain_address(mail.from_):
        problems.error(mail.at("from"), f"`{mail.from_}` is no plain mail address", "`name@example.com`")
    if mail.tls == "insecure_none":
        near = bind is not None and names.is_loopback(bind[0])
        if mail.username is not None and not near:
            problems.error(mail.at("username"), "the password would go out without TLS", "`tls: starttls`")
        problems.warning(mail.at("tls"), "mail goes out without TLS (insecure_none)")
        if mail.ca is not None:
            problems.error(mail.at("ca"), "`ca` with `tls: insecure_none`", "either")
    if (mail.username is None) is not (mail.password is None):
        key = "username" if mail.username is not None else "password"
        problems.error(mail.at(key), "`username` and `password` go together")
    if mail.password is not None:
        checking.secret(mail.at("password"), mail.password, "the mail server's password")
    if mail.ca is not None:
        checking.attempt(mail.at("ca"), check_authorities, checking.path(mail.ca))

"""Chromium's virtual authenticator, one for each tab: a person's finger that says yes wherever it is asked."""

from typing import Any

DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


class Finger:
    """What one person enrolled, brought along to every tab and window."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._credentials: list[dict[str, Any]] = []
        self._first: tuple[Any, str] | None = None

    async def attach(self, page: Any) -> None:
        """An authenticator for this tab, with what was enrolled so far."""
        cdp = await self._context.new_cdp_session(page)
        await cdp.send("WebAuthn.enable")
        made = await cdp.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
        for credential in self._credentials:
            credential["signCount"] += 10  # one device that goes on counting, whichever tab it is asked in
            await cdp.send(
                "WebAuthn.addCredential", {"authenticatorId": made["authenticatorId"], "credential": credential}
            )
        if self._first is None:
            self._first = (cdp, made["authenticatorId"])

    async def learn(self) -> None:
        """Remember what the first tab enrolled."""
        assert self._first is not None
        cdp, authenticator = self._first
        told = await cdp.send("WebAuthn.getCredentials", {"authenticatorId": authenticator})
        self._credentials = told["credentials"]

"""What people read, per reason: a heading, a sentence, and what would help. One table for both wings.

Nothing here says more about the inside than the reason code does.
"""

from typing import NamedTuple

from zt_proxy.core.errors import Reason


class Text(NamedTuple):
    """Plain text; whoever shows it escapes it."""

    title: str
    sentence: str
    help: str


_NOT_HTTP = Text(
    "This request could not be read",
    "The request was not one unambiguous HTTP request, so it was not passed on.",
    "Go back and try the link again. If you typed the address, check it for stray characters.",
)
_BEHIND = "The access check passed; the fault is in the application behind it. Try again in a moment."
_OURS = "Nothing you did caused this. Try again in a moment; tell your administrator if it stays."
_AGAIN = "Start again from the address of the application you want to open."
_PROVIDER = "Try again in a moment. If it stays, your administrator needs the reason and the request number below."

TEXTS: dict[Reason, Text] = {
    Reason.RULE_ALLOWED: Text("Allowed", "A rule allows this request.", ""),
    Reason.PUBLIC: Text("Allowed", "This part of the application is open to everyone.", ""),
    Reason.INTERNAL: Text("Allowed", "This address belongs to the proxy itself.", ""),
    Reason.PREFLIGHT: Text("Allowed", "The browser's question about cross-origin access was answered.", ""),
    Reason.MALFORMED: _NOT_HTTP,
    Reason.TARGET_REFUSED: Text(
        "This address is not accepted",
        "The address contains characters or path segments that different programs read differently.",
        "Check the address. If an application needs such addresses, its route can permit them.",
    ),
    Reason.HEADERS_TOO_LARGE: Text(
        "Your browser sent too much",
        "The request's headers, usually the cookies, are larger than accepted here.",
        "Delete this site's cookies and try again.",
    ),
    Reason.URI_TOO_LONG: Text("This address is too long", "The address is longer than accepted here.", "Shorten it."),
    Reason.BODY_TOO_LARGE: Text(
        "This upload is too large",
        "What you sent is larger than this application accepts.",
        "Send less at a time, or ask your administrator to raise the limit.",
    ),
    Reason.METHOD_REFUSED: Text(
        "This kind of request is not accepted",
        "The request's method is not one that is understood here.",
        "Go back and use the application's own buttons and links.",
    ),
    Reason.EXPECTATION_FAILED: Text(
        "This request asks for something unknown", "The request carries an expectation that nobody here can meet.", ""
    ),
    Reason.UPGRADE_REFUSED: Text(
        "This kind of connection is not accepted",
        "The request asks to change to a protocol that is not permitted here.",
        "",
    ),
    Reason.VERSION_REFUSED: Text(
        "This HTTP version is not accepted", "The request was made in a version of HTTP that is not spoken here.", ""
    ),
    Reason.REQUEST_TIMEOUT: Text(
        "The request took too long to arrive",
        "The connection was too slow, or it paused for too long.",
        "Check your network and try again.",
    ),
    Reason.HOST_UNKNOWN: Text(
        "Nothing here", "There is no application at this address.", "Check the address for a typing error."
    ),
    Reason.PATH_UNKNOWN: Text(
        "Nothing here", "There is no page at this address.", "Check the address, or go to the start page."
    ),
    Reason.MISDIRECTED: Text(
        "Wrong connection",
        "This connection was opened for another host, so the request is not answered on it.",
        "Open the address in a new window.",
    ),
    Reason.TOO_MANY_REQUESTS: Text(
        "Too many requests", "More requests arrived than are accepted in this time.", "Wait a little and try again."
    ),
    Reason.LOGIN_REQUIRED: Text(
        "Please sign in", "This application is open to people who have signed in.", "Sign in and you will be returned."
    ),
    Reason.SESSION_UNKNOWN: Text(
        "You are signed out", "Your session has ended, here or somewhere else.", "Sign in again."
    ),
    Reason.SESSION_IDLE: Text(
        "You were signed out after a pause", "Nobody used this session for a while, so it was closed.", "Sign in again."
    ),
    Reason.SESSION_EXPIRED: Text(
        "Your session has reached its end", "Sessions end after a fixed time, even in use.", "Sign in again."
    ),
    Reason.SESSION_DISPLACED: Text(
        "You signed in somewhere else",
        "You have as many sessions as one person may have, and this was the oldest, so it ended.",
        "Sign in here again to continue; the oldest of your other sessions then ends in its place.",
    ),
    Reason.SESSION_LIMIT: Text(
        "You are signed in too often",
        "You have as many sessions as one person may have, so no further one was made.",
        "Sign out on another device, then sign in here again.",
    ),
    Reason.COOKIE_INVALID: Text(
        "Your session cookie is not valid",
        "The cookie your browser sent was not issued here, or it was changed.",
        "Sign in again. If this returns, delete this site's cookies first.",
    ),
    Reason.COOKIE_REPEATED: Text(
        "Your browser sent two session cookies",
        "Only one can be the right one, so neither was believed.",
        "Delete this site's cookies and sign in again.",
    ),
    Reason.MFA_REQUIRED: Text(
        "A stronger proof is needed",
        "This asks for a stronger proof of who you are than you have given so far.",
        "Confirm with your second factor or your passkey.",
    ),
    Reason.FORM_ALREADY_SENT: Text(
        "This form was sent already",
        "What you sent before you confirmed was passed on once, or it is too old. Nothing was sent a second time.",
        "Go back to the form if you want to send it anew.",
    ),
    Reason.FORM_NOT_KEPT: Text(
        "Your form was not sent",
        "Your form could not be kept until you have confirmed that it is you, so nothing was sent.",
        "Go back to it, wait a moment and send it again.",
    ),
    Reason.REAUTH_REQUIRED: Text(
        "Please confirm that it is you",
        "This action needs a fresh confirmation, even though you are signed in.",
        "Confirm and you will be returned.",
    ),
    Reason.CROSS_ORIGIN: Text(
        "Another site asked for this",
        "The request was started by a page of another site, which is not permitted here.",
        "Open the application directly and try from there.",
    ),
    Reason.CLIENT_GONE: Text("You left", "The browser closed the connection before a decision was made.", ""),
    Reason.SERVICE_WORKER_REFUSED: Text(
        "This application may not work in the background here",
        "A script wanted to stand between your browser and every address of this site, the sign-in's included.",
        "",
    ),
    Reason.FACTOR_WRONG: Text(
        "That was not accepted",
        "The code or passkey is not one of yours, was used before, or came too late.",
        "Try again. Each code works once: wait for the next one if you have just used it.",
    ),
    Reason.FACTOR_LOCKED: Text(
        "Too many wrong codes",
        "Codes are not looked at for a while after several wrong ones.",
        "Wait, or use your passkey.",
    ),
    Reason.FACTOR_UNKNOWN: Text(
        "No such sign-in method",
        "This account has no passkey or authenticator app of this kind, or it was removed.",
        "Use another one, or ask an administrator to let you start afresh.",
    ),
    Reason.FACTOR_LAST: Text(
        "This is your last sign-in method",
        "Without it you could not confirm that it is you.",
        "Add another one first, or confirm with this one before you remove it.",
    ),
    Reason.FACTOR_TOO_MANY: Text(
        "Too many sign-in methods", "This account has as many as it may have.", "Remove one that you do not use."
    ),
    Reason.FACTOR_NOT_ACCEPTED: Text(
        "This kind of sign-in method is not accepted",
        "Your organisation accepts other kinds, or passkeys of certain makes only.",
        "Use another one, or ask an administrator which are accepted.",
    ),
    Reason.ENROLMENT_NOT_GRANTED: Text(
        "An administrator has to allow this first",
        "Your organisation wants to know who adds a sign-in method.",
        "Ask an administrator for permission, then come back.",
    ),
    Reason.ENROLMENT_NOT_FRESH: Text(
        "Please sign in again first",
        "A sign-in method is added only soon after you proved who you are.",
        "Sign in again and you will be returned.",
    ),
    Reason.CERTIFICATE_REQUIRED: Text(
        "A client certificate is needed", "This address is for integrations that show their certificate.", ""
    ),
    Reason.CERTIFICATE_UNSUITABLE: Text(
        "This certificate is not for this use",
        "The client certificate is not one for TLS clients, or its chain is not acceptable.",
        "",
    ),
    Reason.CERTIFICATE_NOT_YET_VALID: Text(
        "This certificate is not valid yet", "The client certificate, or one of its chain, is not valid yet.", ""
    ),
    Reason.CERTIFICATE_EXPIRED: Text(
        "This certificate has expired", "The client certificate, or one of its chain, has expired.", ""
    ),
    Reason.CERTIFICATE_REVOKED: Text(
        "This certificate was revoked", "The client certificate, or one of its chain, has been revoked.", ""
    ),
    Reason.REVOCATION_UNKNOWN: Text(
        "This certificate cannot be checked right now",
        "No revocation list of its issuer is in force, so nobody can say whether it still counts.",
        "",
    ),
    Reason.CERTIFICATE_UNKNOWN: Text(
        "Nobody knows this certificate", "The client certificate is sound, and belongs to no integration here.", ""
    ),
    Reason.CERTIFICATE_AMBIGUOUS: Text(
        "This certificate names more than one", "The client certificate could stand for several integrations.", ""
    ),
    Reason.INTEGRATION_EXPIRED: Text("This integration has ended", "The integration's agreed end has passed.", ""),
    Reason.CREDENTIALS_MIXED: Text(
        "Two identities at once",
        "The request carries a client certificate and a person's session; only one can be meant.",
        "",
    ),
    Reason.NO_RULE_MATCHED: Text(
        "You do not have access",
        "No rule gives your account access to this.",
        "If you should have access, send your administrator the details below.",
    ),
    Reason.FACT_MISSING: Text(
        "This cannot be decided in your situation",
        "A rule asks for something about you or your device that nobody here knows.",
        "Send your administrator the details below; they can see what is missing.",
    ),
    Reason.ACTION_UNKNOWN: Text(
        "Nobody knows what this request does",
        "What is not known to be harmless is not passed on to this application.",
        "Use the application's own buttons and links. If you did, send your administrator the details below.",
    ),
    Reason.BODY_NOT_INSPECTABLE: Text(
        "What you sent could not be looked into",
        "What it does stands inside, and it is too large, encoded, or not what it says it is.",
        "Send less at a time. If it stays, send your administrator the details below.",
    ),
    Reason.JUSTIFICATION_REQUIRED: Text(
        "Why do you want to do this?",
        "Your organisation lets you go on when you have said why. It is asked once in a session, and goes on record.",
        "Say why and you will be returned.",
    ),
    Reason.APPROVAL_REQUIRED: Text(
        "Somebody else has to agree",
        "Your organisation lets you go on when another person has agreed.",
        "Ask for it; the next page says who may agree.",
    ),
    Reason.APPROVAL_UNKNOWN: Text(
        "This request does not wait for you",
        "It was decided already, it is too old, or it is for others to decide.",
        "Look at the list again.",
    ),
    Reason.RISK_TOO_HIGH: Text(
        "This looks too unusual right now",
        "Your device, your network, the hour or something else about this sign-in is not as it usually is.",
        "Try from the device and the place that you usually work with, or ask your administrator.",
    ),
    Reason.LIMIT_REACHED: Text(
        "You have reached a limit",
        "Your organisation bounds how much of this one person may do in a certain time.",
        "Wait a while and try again. If you need more, ask your administrator.",
    ),
    Reason.BREAK_GLASS: Text("Allowed", "You broke the glass, so this goes through, on record.", ""),
    Reason.ANSWER_NOT_INSPECTABLE: Text(
        "The answer could not be looked into",
        "Parts of it are not for your eyes, and it came in a form from which they cannot be taken out.",
        "Ask for less at a time. If it stays, send your administrator the details below.",
    ),
    Reason.LOCKED: Text(
        "Your access is locked",
        "Your administrator, or an automatic protection, has stopped this for now.",
        "Ask your administrator, and send them the details below.",
    ),
    Reason.LOCKED_STEP_UP: Text(
        "Your access is locked until you confirm that it is you",
        "Your administrator, or an automatic protection, wants to be sure that it is you before you go on.",
        "Confirm that it is you, with the strongest sign-in method you have.",
    ),
    Reason.LOCKED_READ_ONLY: Text(
        "Your access is locked to looking only",
        "Your administrator, or an automatic protection, lets you look but not change anything for now.",
        "Ask your administrator, and send them the details below.",
    ),
    Reason.LOCKED_NO_EXPORT: Text(
        "Exports are locked for you",
        "Your administrator, or an automatic protection, has stopped exports and downloads for now.",
        "Ask your administrator, and send them the details below.",
    ),
    Reason.RULE_DENIED: Text(
        "You do not have access",
        "A rule of your organisation forbids this to your account or in this situation.",
        "If you think that is a mistake, send your administrator the details below.",
    ),
    Reason.LOGIN_REFUSED_BY_PROVIDER: Text(
        "The sign-in was not completed",
        "Your identity provider ended the sign-in without confirming who you are.",
        "Try again. If it is refused again, ask the people who run your company account.",
    ),
    Reason.LOGIN_STATE_UNKNOWN: Text(
        "Unknown sign-in",
        "The answer belongs to a sign-in that was already completed, was replaced, or was never started here.",
        _AGAIN,
    ),
    Reason.LOGIN_OTHER_BROWSER: Text(
        "Your browser did not return the sign-in cookie",
        "The sign-in was started in another browser or window, its cookie has expired, or cookies are blocked.",
        "Allow cookies for this site, then start again in this browser. Private windows do not share cookies.",
    ),
    Reason.LOGIN_EXPIRED: Text(
        "This sign-in took too long", "The link for completing it was used already or is too old.", _AGAIN
    ),
    Reason.LOGIN_LOOP: Text(
        "The sign-in keeps going in circles",
        "You were signed in several times within a minute, and each time the application asked again.",
        "Usually the session cookie does not come back: allow cookies for this site, open it with https and exactly "
        "its usual name, and check that your device's clock is right.",
    ),
    Reason.LOGIN_OTHER_SUBJECT: Text(
        "That was another account",
        "You are signed in with one account and confirmed with another. Nothing was changed.",
        "Confirm with the account you are signed in with, or sign out first to change accounts.",
    ),
    Reason.LOGIN_TOKEN_INVALID: Text(
        "The sign-in could not be verified",
        "What your identity provider answered did not pass every check, so it was not believed.",
        _PROVIDER,
    ),
    Reason.LOGIN_MFA_MISSING: Text(
        "A second factor is needed",
        "Your identity provider did not confirm that you used a second factor.",
        "Set up a second factor for your company account, then sign in again.",
    ),
    Reason.LOGIN_NOT_FRESH: Text(
        "You were not asked again",
        "A fresh confirmation was needed, but your identity provider relied on an older sign-in.",
        "Try again. If it stays, your administrator has to permit fresh sign-ins at the identity provider.",
    ),
    Reason.LOGIN_GROUPS_OVERAGE: Text(
        "Your groups could not be read",
        "Your account is in more groups than your identity provider puts into one sign-in.",
        "Ask your administrator to limit the groups that are sent for this application.",
    ),
    Reason.LOGIN_ENDED: Text(
        "You were signed out meanwhile",
        "Your identity provider ended this sign-in while it was on its way.",
        "Sign in again.",
    ),
    Reason.LOGIN_TOO_MANY: Text(
        "Too many sign-ins", "More sign-ins are under way than can be kept.", "Wait a minute and try again."
    ),
    Reason.LOGIN_BUSY: Text(
        "Signing in takes longer right now",
        "Many people sign in at the same moment, or your identity provider is slow.",
        "Wait a minute and try again.",
    ),
    Reason.HANDOFF_INVALID: Text(
        "This link does not work", "The link is damaged, too old, or was not made by this proxy.", _AGAIN
    ),
    Reason.LOGOUT_TOKEN_INVALID: Text(
        "This sign-out does not verify",
        "The message was not signed by a known identity provider for this proxy, is too old, or came twice.",
        _PROVIDER,
    ),
    Reason.PROVIDER_UNREACHABLE: Text(
        "Signing in is not possible right now", "Your identity provider does not answer.", _PROVIDER
    ),
    Reason.PROVIDER_INVALID: Text(
        "Signing in is not possible right now",
        "Your identity provider answered with something that does not verify.",
        _PROVIDER,
    ),
    Reason.UPSTREAM_UNREACHABLE: Text("The application does not answer", "It cannot be reached right now.", _BEHIND),
    Reason.UPSTREAM_CONNECT_TIMEOUT: Text(
        "The application does not answer", "It did not accept a connection in time.", _BEHIND
    ),
    Reason.UPSTREAM_TLS: Text(
        "The application could not be verified",
        "The encrypted connection to the application could not be established.",
        "Your administrator has to look at the application's certificate.",
    ),
    Reason.UPSTREAM_FIRST_BYTE_TIMEOUT: Text(
        "The application takes too long", "It accepted the request but did not begin to answer in time.", _BEHIND
    ),
    Reason.UPSTREAM_INVALID: Text(
        "The application's answer is not valid", "What it sent was not a proper HTTP response.", _BEHIND
    ),
    Reason.UPSTREAM_BUSY: Text(
        "The application is busy", "All connections to it are in use.", "Wait a little and try again."
    ),
    Reason.UPSTREAM_CLOSED: Text(
        "The application ended the connection", "It closed the connection before its answer was complete.", _BEHIND
    ),
    Reason.CONTROL_UNAVAILABLE: Text(
        "Access cannot be checked right now", "The part that knows who is signed in does not answer.", _OURS
    ),
    Reason.RECORD_UNAVAILABLE: Text(
        "Access cannot be recorded right now", "Nothing is passed on that cannot be recorded.", _OURS
    ),
    Reason.STORE_UNAVAILABLE: Text(
        "Access cannot be checked right now", "The store of sessions does not answer. You are not signed out.", _OURS
    ),
    Reason.INTERNAL_ERROR: Text("Something went wrong here", "The request was not passed on.", _OURS),
    Reason.ASSERTION_INVALID: Text(
        "This request did not come through the proxy",
        "It lacks the proxy's signed statement, or the statement does not verify.",
        "Open the application at its public address.",
    ),
    Reason.SHUTTING_DOWN: Text("One moment, please", "The proxy is being restarted.", "Try again in a few seconds."),
}

FALLBACK = TEXTS[Reason.INTERNAL_ERROR]


def text_of(reason: Reason) -> Text:
    """The words for a reason. A reason without words is shown as an internal error, never as nothing."""
    return TEXTS.get(reason, FALLBACK)

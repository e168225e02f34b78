"""One tree of errors: whose fault, HTTP status, reason code, whether trying again can help.

    ZtError
    ├── ClientError        the request is at fault                    4xx
    │   └── MalformedRequest   its bytes are ambiguous or not HTTP    400, connection closed
    ├── UpstreamError      the protected platform is at fault         502 504
    ├── ProviderError      the identity provider is at fault          401 502
    ├── UnavailableError   a part of the proxy is missing             503
    └── ConfigurationError the operator's file is at fault            (never over HTTP)

Every reason code has an anchor in docs/reasons.md; a test keeps the two complete.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a request was answered as it was. The value is what people and records see."""

    # allowed
    RULE_ALLOWED = "rule-allowed"
    PUBLIC = "public"
    INTERNAL = "internal"
    PREFLIGHT = "preflight"
    # the request itself
    MALFORMED = "request-malformed"
    TARGET_REFUSED = "target-refused"
    HEADERS_TOO_LARGE = "headers-too-large"
    URI_TOO_LONG = "uri-too-long"
    BODY_TOO_LARGE = "body-too-large"
    METHOD_REFUSED = "method-refused"
    EXPECTATION_FAILED = "expectation-failed"
    UPGRADE_REFUSED = "upgrade-refused"
    VERSION_REFUSED = "version-refused"
    REQUEST_TIMEOUT = "request-timeout"
    CLIENT_GONE = "client-gone"
    HOST_UNKNOWN = "host-unknown"
    PATH_UNKNOWN = "path-unknown"
    MISDIRECTED = "misdirected"
    TOO_MANY_REQUESTS = "too-many-requests"
    # who asks
    LOGIN_REQUIRED = "login-required"
    SESSION_UNKNOWN = "session-unknown"
    SESSION_IDLE = "session-idle"
    SESSION_EXPIRED = "session-expired"
    SESSION_DISPLACED = "session-displaced"
    SESSION_LIMIT = "session-limit"
    COOKIE_INVALID = "cookie-invalid"
    COOKIE_REPEATED = "cookie-repeated"
    MFA_REQUIRED = "mfa-required"
    REAUTH_REQUIRED = "reauth-required"
    FORM_ALREADY_SENT = "form-already-sent"
    FORM_NOT_KEPT = "form-not-kept"
    CROSS_ORIGIN = "cross-origin"
    SERVICE_WORKER_REFUSED = "service-worker-refused"
    CERTIFICATE_REQUIRED = "certificate-required"
    CERTIFICATE_UNSUITABLE = "certificate-unsuitable"
    CERTIFICATE_NOT_YET_VALID = "certificate-not-yet-valid"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_REVOKED = "certificate-revoked"
    REVOCATION_UNKNOWN = "revocation-unknown"
    CERTIFICATE_UNKNOWN = "certificate-unknown"
    CERTIFICATE_AMBIGUOUS = "certificate-ambiguous"
    INTEGRATION_EXPIRED = "integration-expired"
    CREDENTIALS_MIXED = "credentials-mixed"
    FACTOR_WRONG = "factor-wrong"
    FACTOR_LOCKED = "factor-locked"
    FACTOR_UNKNOWN = "factor-unknown"
    FACTOR_LAST = "factor-last"
    FACTOR_TOO_MANY = "factor-too-many"
    FACTOR_NOT_ACCEPTED = "factor-not-accepted"
    ENROLMENT_NOT_GRANTED = "enrolment-not-granted"
    ENROLMENT_NOT_FRESH = "enrolment-not-fresh"
    # the policy
    NO_RULE_MATCHED = "no-rule-matched"
    RULE_DENIED = "rule-denied"
    FACT_MISSING = "fact-missing"
    ACTION_UNKNOWN = "action-unknown"
    BODY_NOT_INSPECTABLE = "body-not-inspectable"
    JUSTIFICATION_REQUIRED = "justification-required"
    APPROVAL_REQUIRED = "approval-required"
    APPROVAL_UNKNOWN = "approval-unknown"
    RISK_TOO_HIGH = "risk-too-high"
    LIMIT_REACHED = "limit-reached"
    BREAK_GLASS = "break-glass"
    LOCKED = "locked"
    LOCKED_STEP_UP = "locked-step-up"
    LOCKED_READ_ONLY = "locked-read-only"
    LOCKED_NO_EXPORT = "locked-no-export"
    ANSWER_NOT_INSPECTABLE = "answer-not-inspectable"
    # sign-in
    LOGIN_REFUSED_BY_PROVIDER = "login-refused-by-provider"
    LOGIN_STATE_UNKNOWN = "login-state-unknown"
    LOGIN_OTHER_BROWSER = "login-other-browser"
    LOGIN_EXPIRED = "login-expired"
    LOGIN_LOOP = "login-loop"
    LOGIN_OTHER_SUBJECT = "login-other-subject"
    LOGIN_TOKEN_INVALID = "login-token-invalid"  # noqa: S105
    LOGIN_MFA_MISSING = "login-mfa-missing"
    LOGIN_NOT_FRESH = "login-not-fresh"
    LOGIN_GROUPS_OVERAGE = "login-groups-overage"
    LOGIN_ENDED = "login-ended"
    LOGIN_TOO_MANY = "login-too-many"
    LOGIN_BUSY = "login-busy"
    HANDOFF_INVALID = "handoff-invalid"
    LOGOUT_TOKEN_INVALID = "logout-token-invalid"  # noqa: S105
    PROVIDER_UNREACHABLE = "provider-unreachable"
    PROVIDER_INVALID = "provider-invalid"
    # the platform behind
    UPSTREAM_UNREACHABLE = "upstream-unreachable"
    UPSTREAM_CONNECT_TIMEOUT = "upstream-connect-timeout"
    UPSTREAM_TLS = "upstream-tls"
    UPSTREAM_FIRST_BYTE_TIMEOUT = "upstream-first-byte-timeout"
    UPSTREAM_INVALID = "upstream-invalid-response"
    UPSTREAM_BUSY = "upstream-busy"
    UPSTREAM_CLOSED = "upstream-closed"
    # the proxy itself
    CONTROL_UNAVAILABLE = "control-unavailable"
    RECORD_UNAVAILABLE = "record-unavailable"
    STORE_UNAVAILABLE = "store-unavailable"
    ASSERTION_INVALID = "assertion-invalid"
    INTERNAL_ERROR = "internal-error"
    SHUTTING_DOWN = "shutting-down"


class ZtError(Exception):
    """The root. `detail` is for the operator's log and record; it never goes over the wire unless `public` says so."""

    status = 500
    retryable = False

    def __init__(self, reason: Reason, detail: str = "", *, status: int | None = None) -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
        if status is not None:
            self.status = status


class ClientError(ZtError):
    """The request is at fault; sending it again unchanged will not help."""

    status = 400


class MalformedRequest(ClientError):
    """The bytes are not one unambiguous HTTP request: answer and close (RFC 9112 §11.2)."""


class UpstreamError(ZtError):
    """The protected platform did not answer, or not with HTTP."""

    status = 502
    retryable = True


class ProviderError(ZtError):
    """The identity provider refused, or said something that does not verify."""

    status = 502


class UnavailableError(ZtError):
    """A part of the proxy that a decision needs is missing: closed, with Retry-After."""

    status = 503
    retryable = True


class ConfigurationError(ZtError):
    """The operator's files do not make a world that can be served."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.INTERNAL_ERROR, detail)

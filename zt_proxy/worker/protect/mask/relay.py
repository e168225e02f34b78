"""The relay of a request whose answer is masked for its reader: held, looked into, written anew."""

from zt_proxy.core.errors import Reason, UpstreamError, ZtError
from zt_proxy.worker.protect.mask import answers
from zt_proxy.worker.protect.mask.answers import Kind, Types
from zt_proxy.worker.protect.mask.document import Editor, Unreadable
from zt_proxy.worker.protect.mask.hold import Held
from zt_proxy.worker.settings import AnswerSettings
from zt_proxy.worker.upstream.relay import Phase, Relay
from zt_proxy.worker.wire.h1_response import ResponseHead


class NotInspectable(UpstreamError):
    """An answer that nobody can look into, for a reader who may not see everything. Asking again will not help."""

    retryable = False

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.ANSWER_NOT_INSPECTABLE, detail)


class Plan:
    """What is done with the answers for one kind of reader. Shared by requests, never changed."""

    __slots__ = ("editor", "hidden", "settings", "types")

    def __init__(self, settings: AnswerSettings, types: Types, editor: Editor, hidden: frozenset[bytes]) -> None:
        self.settings = settings
        self.types = types
        self.editor = editor
        self.hidden = hidden
        """Lower-case names of headers that are left out."""


class SparedRelay(Relay):
    """For a reader who may see everything: the answer as it is, but for nobody else to find in a cache."""

    types: Types

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        found = answers.spared(head, self.types)
        if found is head:
            super().on_whole(head, body)
            return
        super().on_response(found)
        if body:
            self.on_response_body(body)
        self.on_response_end()

    def on_response(self, head: ResponseHead) -> None:
        super().on_response(answers.spared(head, self.types) if head.status >= 200 else head)


class MaskRelay(Relay):
    """A relay that lets nothing out before it is known to hold nothing that is masked.

    In front of another kind of relay (`class Both(MaskRelay, PageRelay)`) that one gets what passes, such as pages, and
    what was masked, as if it came from the platform.
    """

    plan: Plan
    _held: Held | None = None
    _dropped = False
    """An error lost its body: what still comes of it goes nowhere."""

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        self.on_response(head)
        if body:
            self.on_response_body(body)
        self.on_response_end()

    def on_interim(self, head: ResponseHead) -> None:
        hidden = self.plan.hidden
        super().on_interim(answers.copied(head, answers.without(head.lines, hidden)) if hidden else head)

    def on_response(self, head: ResponseHead) -> None:
        plan = self.plan
        if head.status == 101:
            if not plan.settings.websocket:
                raise NotInspectable("a WebSocket")
            super().on_response(answers.copied(head, answers.without(head.lines, plan.hidden)))
            return
        self.refuse_page(head.status)
        if head.status == 304:
            raise NotInspectable("304 to a request without a condition")  # the browser may hold an older answer
        if head.status in answers.BODILESS or self.head.method == b"HEAD" or head.content_length == 0:
            empty = head.content_length == 0 and self.head.method != b"HEAD"
            super().on_response(answers.masked(head, plan.hidden, 0 if empty else None))
            return
        try:
            answer = answers.consider(head, plan.types)
        except Unreadable as error:
            self._uninspectable(head, error)
            return
        self._held = Held(answer, plan.settings.limit, self.head.target)
        self.status = head.status
        self.phase = Phase.STREAMING  # the platform did answer, though nobody has seen it yet

    def on_response_body(self, data: bytes) -> None:
        held = self._held
        if held is None:
            if not self._dropped:
                super().on_response_body(data)
            return
        try:
            passes = held.feed(data)
        except Unreadable as error:
            self._uninspectable(held.answer.head, error)
            return
        if passes:
            self._release(held, answers.passed(held.answer.head, self.plan.hidden))

    def on_response_end(self) -> None:
        held = self._held
        if held is None:
            if not self._dropped:
                super().on_response_end()
            return
        try:
            self._end(held)
        except Unreadable as error:
            try:
                self._uninspectable(held.answer.head, error)
            except NotInspectable as refused:  # not raised: the platform may have ended its connection with the answer
                self.fail(refused)
                return
            if self._dropped:
                return
        super().on_response_end()

    def _end(self, held: Held) -> None:
        body = held.end()
        head, hidden = held.answer.head, self.plan.hidden
        if body is None:
            self._release(held, answers.passed(head, hidden))
            return
        body, self.masked = self.plan.editor.edit(body, lines=held.answer.kind is Kind.LINES)
        self._held = None
        super().on_response(answers.masked(head, hidden, len(body)))
        if body:
            super().on_response_body(body)

    def _release(self, held: Held, head: ResponseHead) -> None:
        """It may pass: what was held, and from now on whatever comes."""
        self._held = None
        super().on_response(head)
        if held.raw:
            super().on_response_body(bytes(held.raw))

    def _uninspectable(self, head: ResponseHead, error: Unreadable) -> None:
        """Raises NotInspectable, unless the operator lets such answers pass, or an error tells enough by its status."""
        held, self._held = self._held, None
        if self.plan.settings.insecure_pass:
            super().on_response(head)
            if held is not None and held.raw:
                super().on_response_body(bytes(held.raw))
        elif head.status >= 400:
            super().on_response(answers.emptied(head, self.plan.hidden))
            super().on_response_end()
            self._dropped = self._unusable = True
        else:
            raise NotInspectable(str(error))

    def fail(self, error: ZtError) -> None:
        self._held = None
        super().fail(error)

"""A condition, ready to be asked: three-valued, after Kleene.

True, False, or None where a fact is not known. `all` is False as soon as one item is, `any` True as soon as one is,
whatever the others would say; `not` of what is not known is not known. The same closures serve the decision and the
trace of it, so that the two cannot disagree.
"""

from collections.abc import Callable, Iterable, Sequence

from zt_proxy.core.types import Facts

Verdict = bool | None
Ask = Callable[[Facts], Verdict]


class Node:
    """A condition, ready: what it says of a request, and what a trace shows of it."""

    __slots__ = ("actual", "ask", "children", "headers", "kind", "label", "lacks", "timed")

    def __init__(
        self,
        label: str,
        ask: Ask,
        *,
        kind: str = "test",
        children: Sequence["Node"] = (),
        lacks: Callable[[Facts], Iterable[str]] = lambda _: (),
        actual: Callable[[Facts], str] = lambda _: "",
        timed: bool = False,
        headers: Iterable[str] = (),
    ) -> None:
        self.label = label
        self.ask = ask
        self.kind = kind
        """`test`, `all`, `any`, `not`, or `named`."""
        self.children = tuple(children)
        self.lacks = lacks
        """Of a leaf that says None: the facts it lacks."""
        self.actual = actual
        """Of a leaf: the value it compared, as text."""
        self.timed: bool = timed or any(child.timed for child in children)
        """It may say something else later of the same session and the same request."""
        self.headers: frozenset[str] = frozenset(headers).union(*(child.headers for child in children))
        """Lower-case names of the headers it asks for."""

    def missing(self, facts: Facts) -> set[str]:
        """Names of the facts for want of which it says None; none if it says something."""
        if self.ask(facts) is not None:
            return set()
        found = set(self.lacks(facts))
        for child in self.children:
            found |= child.missing(facts)
        return found


def all_of(asks: Sequence[Ask]) -> Ask:
    """Kleene's conjunction."""
    if len(asks) == 1:
        return asks[0]

    def ask(facts: Facts) -> Verdict:
        verdict: Verdict = True
        for each in asks:
            said = each(facts)
            if said is False:
                return False
            if said is None:
                verdict = None
        return verdict

    return ask


def any_of(asks: Sequence[Ask]) -> Ask:
    """Kleene's disjunction."""
    if len(asks) == 1:
        return asks[0]

    def ask(facts: Facts) -> Verdict:
        verdict: Verdict = False
        for each in asks:
            said = each(facts)
            if said is True:
                return True
            if said is None:
                verdict = None
        return verdict

    return ask


def negated(ask: Ask) -> Ask:
    def negated(facts: Facts) -> Verdict:
        said = ask(facts)
        return None if said is None else not said

    return negated

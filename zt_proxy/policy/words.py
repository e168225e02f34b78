"""Which facts a condition asks for, by the words that name them."""

from zt_proxy.policy.spec import All, Any, Cel, Condition, Hours, Named, Not, Test


def facts_asked(*conditions: Condition | None) -> frozenset[str]:
    """The facts of all of them, as `spec.FACTS` names them, with `time` for hours and `cel` for whatever an expression
    asks."""
    found: set[str] = set()
    for condition in conditions:
        match condition:
            case Test():
                found.add(condition.fact)
            case Hours():
                found.add("time")
            case Cel():
                found.add("cel")
            case Not() | Named():
                found |= facts_asked(condition.item)
            case All() | Any():
                found |= facts_asked(*condition.items)
            case None:
                pass
    return frozenset(found)

"""Who is masked, and by which masks."""

import pytest

from tests.lab.masks import KEY, mask
from tests.lab.proxy import APP, allow, lab_route
from zt_proxy.core.errors import ConfigurationError, ZtError
from zt_proxy.core.session import Principal, Risk, RiskLevel
from zt_proxy.core.types import Facts, Obligations
from zt_proxy.policy.spec import Any, Not
from zt_proxy.policy.spec import Test as Is
from zt_proxy.worker.protect.mask import Masking
from zt_proxy.worker.settings import MaskSpec

FINANCE = Not(Is("group", "in", ("finance",)))


def facts(*groups: str, known: bool = True, risk: Risk | None = None, subject: str = "alice", **claims: str) -> Facts:
    who = Principal(subject, "https://idp.test", "corp", groups=frozenset(groups), claims=claims) if known else None
    return Facts(0.0, "app", b"GET", b"/", "192.0.2.1", who, None, risk=risk)


def masking(*masks: MaskSpec) -> Masking:
    return Masking(lab_route("app", APP, (allow(),), masks=masks), KEY)


def names(built: Masking, who: Facts, *obliged: str) -> list[str]:
    return [each.name for each in built.masks_for(who, Obligations(obliged) if obliged else None)]


def test_a_mask_without_terms_is_for_everybody() -> None:
    assert names(masking(mask("$.a")), facts("finance")) == ["secrets"]


def test_a_group_is_spared_and_strangers_are_not() -> None:
    built = masking(mask("$.a", applies=FINANCE))
    assert names(built, facts("finance", "staff")) == []
    assert names(built, facts("staff")) == ["secrets"]
    assert names(built, facts()) == ["secrets"]
    assert names(built, facts(known=False)) == ["secrets"]


def test_claims_and_risk_count_and_what_is_not_known_is_masked() -> None:
    built = masking(
        mask("$.a", name="dept", applies=Not(Is("claim:dept", "in", ("pay",)))),
        mask("$.b", name="risky", applies=Is("risk", "at_least", ("medium",))),
    )
    low, high = Risk(3, RiskLevel.LOW), Risk(80, RiskLevel.HIGH)
    assert names(built, facts(risk=low, dept="pay")) == []
    assert names(built, facts(risk=high, dept="pay")) == ["risky"]
    assert names(built, facts(dept="pay")) == ["risky"]
    assert names(built, facts(risk=low)) == ["dept"]


def test_an_integration_is_masked_like_everybody_unless_it_is_named() -> None:
    by_name = Not(Any((Is("group", "in", ("finance",)), Is("user", "in", ("integration:crm",)))))
    built = masking(mask("$.a", applies=by_name))
    assert names(built, facts(subject="integration:crm")) == []
    assert names(built, facts(subject="integration:other")) == ["secrets"]


def test_a_mask_that_a_rule_names_counts_whatever_its_own_terms_say() -> None:
    built = masking(
        mask("$.a", name="one", applies=FINANCE), mask("$.b", name="two", named_only=True), mask("$.c", name="three")
    )
    assert names(built, facts("finance")) == ["three"]
    assert names(built, facts("finance"), "two", "one") == ["one", "two", "three"]


def test_a_rule_that_names_no_mask_of_the_route_fails_the_request() -> None:
    with pytest.raises(ZtError, match="payroll"):
        masking(mask("$.a")).masks_for(facts(), Obligations(("payroll",)))


@pytest.mark.parametrize("spec", [mask("a"), mask("$.a", way="blur"), mask("$.a", applies=Any(()))])
def test_what_cannot_be_built_is_refused(spec: MaskSpec) -> None:
    with pytest.raises(ConfigurationError):
        masking(spec)

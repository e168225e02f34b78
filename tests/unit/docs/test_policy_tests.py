"""docs/how-to/policy-tests.md: its cases pass against its configuration, and its words are those of the reader."""

import re
from pathlib import Path

from zt_proxy.config.case_runs import coverage, run
from zt_proxy.config.cases import EXPECTED, OBLIGATIONS, REQUEST, load_cases
from zt_proxy.config.worlds import estate

TEXT = (Path(__file__).parents[3] / "docs" / "how-to" / "policy-tests.md").read_text("utf-8")
HEAD = """version: 1
listen:
  - {name: web, address: "0.0.0.0:443", tls: {certificate: site.pem, key: site.key}}
portal: {url: "https://auth.example.com"}
identity: {providers: {corp: {issuer: "https://sso.example.com", client_id: zt, client_secret: "${file:secret}"}}}
"""


def test_the_cases_of_the_page_pass_and_cover_every_rule(tmp_path: Path) -> None:
    configuration, cases = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "zt-proxy.yaml").write_text(HEAD + configuration)
    (tmp_path / "zt-proxy.tests.yaml").write_text(cases)
    whole = estate(tmp_path / "zt-proxy.yaml")
    loaded = load_cases(tmp_path / "zt-proxy.tests.yaml", whole)
    assert not loaded.problems
    ran = [run(case, whole, 0.0) for case in loaded.cases]
    assert [each.case.name for each in ran if not each.passed] == []
    assert coverage(ran, whole).percent == 100


def test_every_key_of_a_case_is_in_the_table() -> None:
    table = TEXT.partition("| key | |")[2].partition("`defaults`")[0]
    assert [key for key in ("name", *REQUEST, *EXPECTED, *OBLIGATIONS) if not re.search(rf"`{key}[`:]", table)] == []

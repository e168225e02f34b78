"""What a profile makes of a request: disguises, bodies, queries, headers, objects, and what it refuses to guess."""

from typing import Any

import msgspec
import pytest

from zt_proxy.core.errors import ClientError, ConfigurationError, Reason
from zt_proxy.core.types import SEVERAL, Act, Action, Change, Sensitivity
from zt_proxy.policy.actions import REMEMBERED_BYTES, NeedsBody, Profile
from zt_proxy.policy.profile_spec import (
    FieldTest,
    Format,
    GraphQLTest,
    MatcherSpec,
    MessageSpec,
    ObjectSpec,
    OtherwiseSpec,
    ProfileSpec,
    SensitivitySpec,
)

JSON = {b"content-type": b"application/json"}


def profile(*matchers: MatcherSpec, prefix: bytes = b"/", **rest: Any) -> Profile:
    return Profile(ProfileSpec("test", "Test", "1", "by tests", matchers, **rest), prefix)


def matcher(id: str, action: Action | None, *paths: str, **rest: Any) -> MatcherSpec:
    return MatcherSpec(id, action, paths=paths, **rest)


def ask(
    profile: Profile,
    request: str,
    body: bytes | None = None,
    headers: dict[bytes, bytes] = JSON,
    *,
    websocket: bool = False,
) -> Act:
    method, _, target = request.partition(" ")
    path, mark, query = target.encode().partition(b"?")
    where = (method.encode(), path, query if mark else None, headers.get, websocket)
    act = profile.classify(*where)
    if isinstance(act, NeedsBody):
        assert body is not None, "it wanted a body"
        return profile.classify_body(*where, body)
    return act


def refused_body(profile: Profile, request: str, body: bytes, headers: dict[bytes, bytes] = JSON) -> None:
    with pytest.raises(ClientError) as caught:
        ask(profile, request, body, headers)
    assert (caught.value.reason, caught.value.status) == (Reason.BODY_NOT_INSPECTABLE, 403)


DEPLOYING = (
    matcher("deploy", Action.DEPLOY, "/deploy", methods=("POST",), object=ObjectSpec("flow", "all")),
    matcher("flow", Action.DEPLOY, "/flow/{flow}", methods=("PUT",), object=ObjectSpec("flow", "{flow}")),
    matcher("flows", Action.VIEW, "/flows/{flow}", methods=("GET",)),
    matcher("rest", Action.USE, "/{rest**}", methods=("GET", "POST")),
)


@pytest.mark.parametrize(
    "path",
    ["/deploy", "/deploy/", "/DEPLOY", "/Deploy/", "//deploy", "/deploy//", "/deploy;v=1", "/deplo%79", "/deploy%3Fx",
     "/%64eploy", "/;a/deploy", "/deploy%23", "/deploy%2F"],
)  # fmt: skip
def test_no_spelling_of_a_deploy_is_less_than_a_deploy(path: str) -> None:
    act = ask(profile(*DEPLOYING), f"POST {path}")
    assert act.refused or act.action is Action.DEPLOY


def test_a_disguise_that_could_be_either_of_two_things_is_refused() -> None:
    both = profile(matcher("a", Action.EXPORT, "/x/{name}"), matcher("b", Action.BUILD, "/x/y/{name}"))
    assert ask(both, "GET /x/y%2Fz").refused
    assert not ask(both, "GET /x/y").refused


def test_a_disguise_of_something_known_is_not_hidden_by_what_fits_everything() -> None:
    act = ask(profile(*DEPLOYING), "GET //flows/1")
    assert act.action is Action.VIEW


def test_the_stronger_of_two_readings_counts_when_it_stands_for_the_weaker() -> None:
    both = profile(matcher("a", Action.VIEW, "/x/{name}"), matcher("b", Action.MANAGE_ACCESS, "/x/y/{name}"))
    assert ask(both, "GET /x/y%2Fz").action is Action.MANAGE_ACCESS


def test_a_platform_that_folds_case_has_its_paths_folded() -> None:
    folding = profile(*DEPLOYING, case_insensitive=True)
    assert ask(folding, "PUT /FLOW/AbC") == Act(Action.DEPLOY, "flow", "AbC", matcher="flow")


def test_objects_are_named_as_the_platform_will_read_them() -> None:
    assert ask(profile(*DEPLOYING), "PUT /flow/my%20flow%C3%A9").object == "my flowé"


def test_the_first_matcher_that_fits_wins() -> None:
    ordered = profile(
        matcher("one", Action.VIEW, "/a/{x}"), matcher("two", Action.BUILD, "/a/b"), matcher("rest", None, "/**")
    )
    assert ask(ordered, "POST /a/b").matcher == "one"
    assert ask(ordered, "POST /c") == Act(matcher="rest", refused=True)


@pytest.mark.parametrize(
    ("template", "path", "fits"),
    [
        ("/", "/", True),
        ("/", "/a", False),
        ("/a/**", "/a", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/ab", False),
        ("/**/z", "/a/b/z", True),
        ("/**/z", "/z", True),
        ("/**/z", "/az", False),
        ("/a/{x}", "/a", False),
        ("/a/{x}", "/a/", False),
        ("/a/{x}", "/a/b/c", False),
        ("/a/{x}.json", "/a/b.json", True),
        ("/a/@{x}/b", "/a/@s/b", True),
        ("/a/*/c", "/a/b/c", True),
        ("/a b/{x}", "/a%20b/c", True),
        ("/a/{x**}/c", "/a/b/b/c", True),
    ],
)
def test_templates_fit_whole_paths(template: str, path: str, fits: bool) -> None:
    assert (ask(profile(matcher("m", Action.BUILD, template)), f"GET {path}").matcher == "m") is fits


@pytest.mark.parametrize(
    "template", ["a", "/a//b", "/**/x/**", "/{x}-{y}", "/{X}", "/a/{x", "/{x}/{x}", "/a/../b", "/x**"]
)
def test_templates_that_can_match_nothing_are_errors(template: str) -> None:
    with pytest.raises(ConfigurationError):
        profile(matcher("m", Action.BUILD, template))


def test_templates_begin_below_the_path_of_the_route() -> None:
    below = profile(*DEPLOYING, prefix=b"/builder")
    assert ask(below, "POST /builder/deploy").action is Action.DEPLOY
    assert ask(below, "GET /builder").matcher == "rest"


def test_unknown_requests_take_what_the_profile_says_otherwise() -> None:
    default = profile()
    assert ask(default, "GET /x") == Act(Action.USE)
    assert ask(default, "POST /x") == Act(refused=True)
    assert ask(default, "BREW /x") == Act(refused=True)
    assert ask(default, "GET /x", websocket=True) == Act(refused=True)
    strict = profile(otherwise=OtherwiseSpec(safe=None, unsafe=Action.BUILD, websocket=Action.VIEW))
    assert ask(strict, "GET /x").refused
    assert ask(strict, "POST /x").action is Action.BUILD
    assert ask(strict, "GET /x", websocket=True).action is Action.VIEW


def test_a_get_is_also_a_head() -> None:
    assert ask(profile(matcher("m", Action.EXPORT, "/x", methods=("GET",))), "HEAD /x").matcher == "m"


def test_upgrades_and_requests_do_not_fit_each_others_matchers() -> None:
    one = profile(matcher("plain", Action.VIEW, "/x"), matcher("socket", Action.BUILD, "/x", websocket=True))
    assert ask(one, "GET /x").matcher == "plain"
    assert ask(one, "GET /x", websocket=True).matcher == "socket"


FORMAT = profile(
    matcher("export", Action.EXPORT, "/data", query=(FieldTest("format", ("csv", "xls*")),)),
    matcher("any", Action.VIEW, "/data", query=(FieldTest("peek"),)),
    matcher("plain", Action.USE, "/data"),
)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "plain"),
        ("?format=json", "plain"),
        ("?format=csv", "export"),
        ("?x=1&format=xlsx", "export"),
        ("?f%6Frmat=cs%76", "export"),
        ("?peek", "any"),
        ("?peek=&x", "any"),
    ],
)
def test_query_parameters_are_compared_decoded(query: str, found: str) -> None:
    assert ask(FORMAT, f"GET /data{query}").matcher == found


@pytest.mark.parametrize("query", ["?format=json&format=csv", "?format[]=csv", "?format[0]=json", "?FORMAT=csv"])
def test_a_parameter_that_platforms_may_read_differently_is_refused(query: str) -> None:
    assert ask(FORMAT, f"GET /data{query}") == Act(matcher="export", refused=True)


def test_headers_are_compared_without_case_and_never_remembered() -> None:
    by_header = profile(
        matcher("full", Action.DEPLOY, "/flows", headers=(FieldTest("x-kind", ("full*",)),)),
        matcher("none", Action.VIEW, "/flows", headers=(FieldTest("x-kind", absent=True),)),
        matcher("other", Action.BUILD, "/flows"),
    )
    assert ask(by_header, "POST /flows", headers={b"x-kind": b" FULL-1"}).matcher == "full"
    assert ask(by_header, "POST /flows", headers={}).matcher == "none"
    assert ask(by_header, "POST /flows", headers={b"x-kind": b"part"}).matcher == "other"


SAVE = profile(
    matcher("live", Action.DEPLOY, "/flow/{id}", methods=("PATCH",), body=(FieldTest("data.active", ("true",)),),
            object=ObjectSpec("flow", "{body.data.id}")),
    matcher("any-tag", Action.EXPORT, "/flow/{id}", methods=("PATCH",), body=(FieldTest("tags.*.name", ("secret",)),)),
    matcher("draft", Action.BUILD, "/flow/{id}", methods=("PATCH",)),
    matcher("see", Action.VIEW, "/flow/{id}", methods=("GET",)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"data": {"active": true, "id": 7}}', "live"),
        (b'{"data": {"active": "true"}}', "live"),
        (b'{"data": {"active": false}}', "draft"),
        (b'{"data": {"activ\\u0065": true}}', "live"),
        (b'{"data": [1]}', "draft"),
        (b'{"tags": [{"name": "a"}, {"name": "secret"}]}', "any-tag"),
        (b"[]", "draft"),
        (b"", "draft"),
    ],
)
def test_fields_of_the_body_decide(body: bytes, found: str) -> None:
    assert ask(SAVE, "PATCH /flow/1", body).matcher == found


def test_only_requests_that_a_body_decides_wait_for_it() -> None:
    assert SAVE.classify(b"PATCH", b"/flow/1", None, JSON.get, False) == NeedsBody(256 * 1024)
    assert ask(SAVE, "GET /flow/1").matcher == "see"


def test_objects_can_be_named_by_the_body() -> None:
    assert ask(SAVE, "PATCH /flow/1", b'{"data": {"active": true, "id": 7}}').object == "7"
    assert ask(SAVE, "PATCH /flow/1", b'{"data": {"active": true}}').object == ""


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": {"active": false, "active": true}}',
        b'{"data": {"active": true}, "data": {"active": false}}',
        b'{"data": {"active": false, "Active": true}}',
        b'{"Data": {"active": true}}',
        b'{"data": {"active": true, "id": [1, 2]}}',
        b'{"data": {"active": NaN}}',
        b'{"data": {"active": true},}',
        b"{'data': 1}",
        b'\xef\xbb\xbf{"data": {"active": true}}',
        b'{"data": "\xff"}',
        b"[" * 5000 + b"]" * 5000,
        b"x",
    ],
)
def test_a_body_that_two_parsers_may_read_differently_is_refused(body: bytes) -> None:
    refused_body(SAVE, "PATCH /flow/1", body)


def test_keys_that_nobody_asks_for_may_be_anything() -> None:
    assert ask(SAVE, "PATCH /flow/1", b'{"x": 1, "x": 2, "X": 3, "data": {"active": true}}').matcher == "live"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"content-type": b"text/plain"},
        {b"content-type": b"application/x-www-form-urlencoded"},
        {b"content-type": b"application/json; charset=utf-16"},
        {b"content-type": b"application/json", b"content-encoding": b"gzip"},
    ],
)
def test_a_body_that_does_not_say_it_is_plain_json_is_refused(headers: dict[bytes, bytes]) -> None:
    refused_body(SAVE, "PATCH /flow/1", b'{"data": {"active": true}}', headers)


def test_media_types_that_are_json_by_their_suffix_are_read() -> None:
    headers = {b"content-type": b'application/vnd.api+json; charset="UTF-8"'}
    assert ask(SAVE, "PATCH /flow/1", b'{"data": {"active": true}}', headers).matcher == "live"


def test_a_body_above_the_limit_is_refused() -> None:
    small = profile(matcher("m", Action.DEPLOY, "/x", body=(FieldTest("a"),)), body_limit=16)
    refused_body(small, "POST /x", b'{"a": "' + b"x" * 32 + b'"}')


GRAPHQL = profile(
    matcher("access", Action.MANAGE_ACCESS, "/graphql", methods=("GET", "POST"),
            graphql=GraphQLTest(("mutation",), fields=("*users*",)), object=ObjectSpec("operation", "{graphql.field}")),
    matcher("change", Action.BUILD, "/graphql", methods=("GET", "POST"), graphql=GraphQLTest(("mutation",))),
    matcher("dump", Action.EXPORT, "/graphql", methods=("GET", "POST"), graphql=GraphQLTest(("query",), fields=("dump",))),
    matcher("see", Action.VIEW, "/graphql", methods=("GET", "POST"), graphql=GraphQLTest(("query",))),
    matcher("page", Action.USE, "/graphql", methods=("GET",)),
)  # fmt: skip


def graphql(document: object, **more: object) -> bytes:
    return msgspec.json.encode({"query": document, **more})


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ("{ a { b(x: {y: [1, 2]}) } }", "see"),
        ("query Q($a: [T!]! = [{x: 1}]) @d(if: true) { a: b @skip(if: $a) { c } }", "see"),
        ("mutation { a }", "change"),
        ("mutation M { harmless: delete_users_items(ids: [1]) { id } }", "access"),
        ("query Q { a } mutation M { a }", "change"),
        ("{ a } # mutation { delete_users }", "see"),
        ('{ a(text: "} mutation { delete_users }") }', "see"),
        ('{ a(text: """ " } mutation { x \\""" """) }', "see"),
        ("mutation { ... on Mutation { ...F } } fragment F on Mutation { x: update_users }", "access"),
        ("{ dump a }", "dump"),
        ("\ufeff,,{a,b}", "see"),
    ],
)
def test_graphql_is_known_by_its_top_level_fields(document: str, found: str) -> None:
    assert ask(GRAPHQL, "POST /graphql", graphql(document)).matcher == found


def test_a_batch_is_as_strong_as_its_strongest_part() -> None:
    batch = b"[" + graphql("{ a }") + b"," + graphql("mutation { add_users }") + b"]"
    assert ask(GRAPHQL, "POST /graphql", batch) == Act(Action.MANAGE_ACCESS, "operation", SEVERAL, matcher="access")


def test_a_document_of_actions_that_no_single_one_stands_for_is_refused() -> None:
    assert ask(GRAPHQL, "POST /graphql", graphql("query { dump } mutation { a }")).refused


@pytest.mark.parametrize(
    "document",
    ["", "{", "{ a", "{ }", "a", "{ a } }", "mutation { ...F }", "{ ...F } fragment F on Q { ...F }", "{ a(b: [1) }",
     "type Q { a: Int }", "{ ...F } fragment F on Q { a } fragment F on Q { b }", "query", '{ a(b: "x) }', "{ a: }",
     "subscription", "{" + " a" * 300 + "}", "{ \x00 }", "{ a? }", 7, None, ["{ a }"]],
)  # fmt: skip
def test_graphql_that_cannot_be_read_is_refused(document: object) -> None:
    many = "{" + "".join(f" a{n}" for n in range(300)) + "}" if document == "{" + " a" * 300 + "}" else document
    refused_body(GRAPHQL, "POST /graphql", graphql(many))


@pytest.mark.parametrize("body", [b"{}", b"[]", b"[1]", b'"x"', b'{"extensions": {"persistedQuery": {}}}',
                                  b'{"query": "{ a }", "query": "mutation { a }"}'])  # fmt: skip
def test_graphql_without_one_document_is_refused(body: bytes) -> None:
    refused_body(GRAPHQL, "POST /graphql", body)


def test_graphql_by_get_is_read_from_the_query() -> None:
    assert ask(GRAPHQL, "GET /graphql?query=mutation%7Ba%7D").matcher == "change"
    assert ask(GRAPHQL, "GET /graphql").matcher == "page"
    for query in ("query=%7Ba%7D&query=mutation%7Ba%7D", "extensions=%7B%7D", "query=%7B"):
        assert ask(GRAPHQL, f"GET /graphql?{query}").refused


def test_sensitivity_is_the_matchers_or_the_objects_whichever_is_more() -> None:
    one = profile(
        matcher("table", Action.USE, "/table/{t}", object=ObjectSpec("table", "{t}"), sensitivity=Sensitivity.INTERNAL),
        sensitivities=(
            SensitivitySpec(("table:sal*",), Sensitivity.RESTRICTED),
            SensitivitySpec(("table:*",), Sensitivity.PUBLIC),
        ),
    )
    assert ask(one, "GET /table/SALARIES").sensitivity is Sensitivity.RESTRICTED
    assert ask(one, "GET /table/rooms").sensitivity is Sensitivity.INTERNAL


def test_an_object_has_an_owner_where_the_request_says_whose_it_is() -> None:
    home = profile(matcher("m", Action.USE, "/user/{who}/{page}", object=ObjectSpec("page", "{page}", "{who}")))
    assert ask(home, "GET /user/ann/notes") == Act(Action.USE, "page", "notes", matcher="m", owner="ann")


def test_a_name_beyond_reason_is_refused() -> None:
    assert ask(profile(*DEPLOYING), "PUT /flow/" + "x" * 600).refused


def test_what_is_remembered_is_bounded_in_number_and_length() -> None:
    one = profile(*DEPLOYING)
    for number in range(5000):
        ask(one, f"GET /flows/{number}")
    assert one.remembered() <= 4096
    before = one.remembered()
    ask(one, "GET /" + "y" * REMEMBERED_BYTES)
    assert one.remembered() == before


SOCKETS = profile(
    matcher("kernel", Action.USE, "/kernel", websocket=True),
    messages=(
        MessageSpec("run", Action.BUILD, ("kernel",), Format.TEXT, (FieldTest("header.type", ("run",)),),
                    ObjectSpec("code", "{body.content.id}"), changes=Change.DEPLOYMENT),
        MessageSpec("kill", None, fields=(FieldTest("header.type", ("kill",)),), format=Format.TEXT),
        MessageSpec("raw", Action.EXPORT, format=Format.BINARY),
    ),
)  # fmt: skip


def test_messages_are_told_apart_by_their_fields() -> None:
    assert SOCKETS.reads_messages
    assert SOCKETS.message(b'{"header": {"type": "run"}, "content": {"id": "c1"}}', True, "kernel") == Act(
        Action.BUILD, "code", "c1", changes=Change.DEPLOYMENT, matcher="run"
    )
    assert SOCKETS.message(b'{"header": {"type": "kill"}}', True, "kernel") == Act(matcher="kill", refused=True)
    assert SOCKETS.message(b"\x00\x01", False, "kernel") == Act(Action.EXPORT, matcher="raw")
    assert SOCKETS.message(b'{"header": {"type": "ping"}}', True, "kernel") is None
    assert SOCKETS.message(b'{"header": {"type": "run"}}', True, "other") is None


@pytest.mark.parametrize("payload", [b"run", b'{"header": {"type": "ping", "type": "run"}}', b"\xff", b"{"])
def test_messages_that_cannot_be_read_are_refused(payload: bytes) -> None:
    act = SOCKETS.message(payload, True, "kernel")
    assert act is not None
    assert act.refused


def test_unknown_messages_take_what_the_profile_says_otherwise() -> None:
    assert not profile().reads_messages
    closed = profile(otherwise=OtherwiseSpec(message=None, message_as_opened=False))
    assert closed.reads_messages
    assert closed.message(b"x", True) == Act(refused=True)


def test_profiles_travel_to_other_processes_unchanged() -> None:
    spec = ProfileSpec("test", "Test", "1", "by tests", DEPLOYING)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=ProfileSpec) == spec


@pytest.mark.parametrize("spelled", ["\u017fecret", "SECRET", "\u212aey"])
def test_a_key_that_some_platforms_fold_into_the_one_asked_for_is_refused(spelled: str) -> None:
    asked = "key" if "ey" in spelled else "secret"
    one = profile(matcher("m", Action.EXPORT, "/x", body=(FieldTest(asked),)), matcher("rest", Action.USE, "/x"))
    refused_body(one, "POST /x", msgspec.json.encode({spelled: 1}))


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b",".join([b'{"query": "{a}"}'] * 65) + b"]",
        graphql("{" + " a" * 30_000 + "}"),
        graphql("#\n" * 30_000 + "{a}"),
    ],
)
def test_graphql_that_would_cost_much_to_read_is_refused(body: bytes) -> None:
    refused_body(GRAPHQL, "POST /graphql", body)


@pytest.mark.parametrize("path", ["/flow/pay;x", "/flow/pay%3Fx", "/flow/pay%3Bx"])
def test_an_object_that_two_platforms_would_call_differently_is_refused(path: str) -> None:
    assert ask(profile(*DEPLOYING), f"PUT {path}") == Act(matcher="flow", refused=True)
    assert ask(profile(*DEPLOYING), "PUT /flow/Pay%20day").object == "Pay day"

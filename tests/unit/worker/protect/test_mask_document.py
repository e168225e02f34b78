"""Masks on documents: what is found, what takes its place, and what stays as it was."""

import json

import pytest

from zt_proxy.worker.protect.mask import paths, ways
from zt_proxy.worker.protect.mask.document import Editor, Unreadable
from zt_proxy.worker.protect.mask.ways import Way

IBAN = "DE89370400440532013000"
STARS = ways.fixed(b"")


def masked(body: str | bytes, *fields: str, way: Way | None = STARS, lines: bool = False, folds: bool = False) -> bytes:
    targets = [(paths.parse(field), way) for field in fields]
    editor = Editor([], targets) if folds else Editor(targets)
    return editor.edit(body.encode() if isinstance(body, str) else body, lines=lines)[0]


@pytest.mark.parametrize(
    ("field", "body", "expected"),
    [
        ("$.a.b", '{"a":{"b":"x"},"b":"x"}', '{"a":{"b":"****"},"b":"x"}'),
        ("$..b", '{"a":{"b":"x"},"b":[{"b":"x"}]}', '{"a":{"b":"****"},"b":[]}'),
        ("$.items[*].b", '{"items":[{"b":1},{"c":2},{"b":[3]}],"b":4}', '{"items":[{"b":0},{"c":2},{"b":[]}],"b":4}'),
        ("$[*].b", '[{"b":1},[{"b":2}]]', '[{"b":0},[{"b":2}]]'),
        ("$.a.*", '{"a":{"b":"x","c":[1]},"d":1}', '{"a":{"b":"****","c":[]},"d":1}'),
        ("$.a[*]", '{"a":[1,"x",{"y":1},[2]],"d":1}', '{"a":[0,"****",{},[]],"d":1}'),
        ("$..a.b", '{"a":{"b":1},"c":{"a":{"b":2,"c":{"b":3}}}}', '{"a":{"b":0},"c":{"a":{"b":0,"c":{"b":3}}}}'),
        ("$..a..b", '{"b":1,"a":{"c":[{"b":2}]}}', '{"b":1,"a":{"c":[{"b":0}]}}'),
        ('$["a.b"]', '{"a.b":"x","a":{"b":"x"}}', '{"a.b":"****","a":{"b":"x"}}'),
        ("$['it''s']".replace("''", "\\'"), '{"it\'s":"x"}', '{"it\'s":"****"}'),
        ("$..größe", '{"größe":"x","gr\\u00f6\\u00dfe":"x"}', '{"größe":"****","gr\\u00f6\\u00dfe":"****"}'),
        ("$..iban", '{"\\u0069ban":"x"}', '{"\\u0069ban":"****"}'),
        ("$..iban", '{"IBAN":"x","x\\"iban":"x","iban ":"x"}', '{"IBAN":"x","x\\"iban":"x","iban ":"x"}'),
        ("$..iban", '{"iban":"a","iban":"b"}', '{"iban":"****","iban":"****"}'),
        ("$.iban", '{"iban":"a","x":1,"iban":"b"}', '{"iban":"****","x":1,"iban":"****"}'),
        ("$..iban", ' {\n "iban" : "a" ,\t"n": 1.50e+3 }\r\n', ' {\n "iban" : "****" ,\t"n": 1.50e+3 }\r\n'),
        ("$..iban", '{"iban":true,"a":{"iban":null}}', '{"iban":false,"a":{"iban":null}}'),
        ("$..iban", '"iban"', '"iban"'),
        ("$..iban", '["iban","iban"]', '["iban","iban"]'),
        ("$..a", '{"a":{"a":1},"b":2}', '{"a":{},"b":2}'),
    ],
)  # fmt: skip
def test_a_path_names_these_values_and_no_others(field: str, body: str, expected: str) -> None:
    assert masked(body, field).decode() == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"a":1}', "{}"),
        ('{"a":1,"b":2}', '{"b":2}'),
        ('{"b":2,"a":1}', '{"b":2}'),
        ('{"b":2,"a":1,"c":3}', '{"b":2,"c":3}'),
        ('{"a":1,"a":2}', "{}"),
        ('{"a":1,"a":2,"b":3}', '{"b":3}'),
        ('{"b":3,"a":1,"a":2}', '{"b":3}'),
        ('{ "a" : 1 , "b" : 2 }', '{  "b" : 2 }'),
        ('{"b":{"a":1},"a":[1,{"a":2}],"c":0}', '{"b":{},"c":0}'),
    ],
)
def test_a_member_is_taken_out_with_one_comma(body: str, expected: str) -> None:
    assert masked(body, "$..a", way=None).decode() == expected
    assert masked(body, "$.a", "$.b.a", way=None).decode() == expected


def test_elements_are_taken_out_with_one_comma_each() -> None:
    assert masked('{"a":[1, 2 ,3],"b":[1]}', "$.a[*]", way=None) == b'{"a":[ ],"b":[1]}'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f'"{IBAN}"', '"****3000"'),
        ('"12345678"', '"****5678"'),
        ('"1234567"', '"****"'),
        ('""', '"****"'),
        ("1234567890", '"****7890"'),
        ("-12345678", '"****5678"'),
        ("123456789012345678901234567890", '"****7890"'),
        ("1234567", '"****"'),
        ("1234567.8", "0"),
        ("12345678e9", "0"),
        ('"äöüßäöüß"', '"****äöüß"'),
        ('"1234\\u0035678"', '"****5678"'),
        ('"123456\\"\\\\"', '"****56\\"\\\\"'),
        ('"😀😀😀"', '"****"'),
        ("[12345678]", "[]"),
        ('{"a":12345678}', "{}"),
        ("true", "false"),
    ],
)
def test_the_last_four_are_shown_of_texts_and_whole_numbers_that_are_long_enough(value: str, expected: str) -> None:
    for field in ("$.v", "$..v"):
        assert masked(f'{{"v":{value}}}', field, way=ways.LAST4).decode() == f'{{"v":{expected}}}'


def test_a_hash_is_the_same_for_the_same_value_under_one_key_and_tells_nothing_else() -> None:
    way = ways.hashed(b"k" * 32)
    one = json.loads(masked('{"a":"12","b":[{"a":"\\u0031\\u0032"},{"a":12},{"a":"13"}]}', "$..a", way=way))
    same = {one["a"], one["b"][0]["a"], one["b"][1]["a"]}
    assert len(same) == 1
    assert one["b"][2]["a"] not in same
    assert len(one["a"]) == 25
    other = json.loads(masked('{"a":"12"}', "$..a", way=ways.hashed(b"x" * 32)))
    assert other["a"] not in same
    assert masked('{"a":true}', "$..a", way=way) == b'{"a":false}'


def test_a_fixed_text_takes_the_place_of_every_kind() -> None:
    body = '{"a":1,"b":{"a":[2]},"c":[{"a":null}]}'
    assert json.loads(masked(body, "$..a", way=ways.fixed(b'"n/a"'))) == {
        "a": "n/a",
        "b": {"a": "n/a"},
        "c": [{"a": "n/a"}],
    }


def test_numbers_of_any_length_stay_as_they_are() -> None:
    body = '{"n":[1e400,123456789012345678901234567890.10,-0,1E+2],"iban":1}'
    assert masked(body, "$..iban").decode() == body.replace(":1}", ":0}")


def test_case_counts_unless_said_otherwise() -> None:
    body = '{"IBAN":"x","iBan":"x","ſalary":"x","Salary":"x"}'
    assert masked(body, "$..iban") == body.encode()
    assert masked(body, "$..Iban", "$..salary", folds=True).decode() == (
        '{"IBAN":"****","iBan":"****","ſalary":"x","Salary":"****"}'
    )


def test_of_two_masks_on_one_value_the_first_counts() -> None:
    stars, last = ways.fixed(b""), ways.LAST4
    editor = Editor([(paths.parse("$..iban"), stars), (paths.parse("$.a.iban"), last)])
    assert editor.edit(f'{{"a":{{"iban":"{IBAN}"}}}}'.encode()) == (b'{"a":{"iban":"****"}}', 1)


def test_every_line_is_a_document_of_its_own() -> None:
    body = '{"iban":"a"}\n\n{"iban":"b","x":[{"iban":1}]}\r\n["iban"]'
    expected = '{"iban":"****"}\n\n{"iban":"****","x":[{"iban":0}]}\r\n["iban"]'
    assert masked(body, "$..iban", lines=True).decode() == expected
    assert masked(body, "$.iban", lines=True).decode() == expected.replace(":0", ":1")
    with pytest.raises(Unreadable):
        masked(body + "\n{", "$..iban", lines=True)


def test_a_byte_order_mark_stays_in_front() -> None:
    assert masked(b'\xef\xbb\xbf{"iban":"x"}', "$.iban") == b'\xef\xbb\xbf{"iban":"****"}'


@pytest.mark.parametrize("field", ["$..iban", "$.a[*].iban"])
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b'{"iban":}', b"nul", b'{"a":1}{"b":2}', b'["\\ud800"]', b'["\xff"]', b'["\xed\xa0\x80"]', b"\xff\xfe{\0}\0",
        b"[" * 5000 + b"]" * 5000, b"{'a':1}", b"[1,]", b"[NaN]", b'["\n"]', b"//x\n[]", b"\xef\xbb\xbf\xef\xbb\xbf[]",
    ],
)  # fmt: skip
def test_what_others_may_read_otherwise_is_refused(field: str, body: bytes) -> None:
    with pytest.raises(Unreadable):
        masked(body, field)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"a":[{"x":"1"},{"x":"2"}]}', '{"a":[{"x":"****"},{"x":"****"}]}'),
        ('{"a":[{"x":"1"}],"x":"2"}', '{"a":[{"x":"****"}],"x":"2"}'),
        ('{"a":[{"x":"1","x":"2"}]}', '{"a":[{"x":"****","x":"****"}]}'),
        ('{"a":[{"x":"1"}],"a":[{"x":"2"}]}', '{"a":[{"x":"****"}],"a":[{"x":"****"}]}'),
        ('{"a":[{"x":"1"},{"y":"x"}]}', '{"a":[{"x":"****"},{"y":"x"}]}'),
        ('{"a":[{"x":{"y":{"x":1}}}]}', '{"a":[{"x":{}}]}'),
        ('{"a":[{"x":[1,{"x":2}]},[{"x":1}]]}', '{"a":[{"x":[]},[{"x":1}]]}'),
        ('{"a":[{"x":1e400}]}', '{"a":[{"x":0}]}'),
        ('{"b":[{"x":1}]}', '{"b":[{"x":1}]}'),
    ],
)
def test_a_path_from_the_root_names_no_other_place_of_its_last_name(body: str, expected: str) -> None:
    assert masked(body, "$.a[*].x").decode() == expected
    large = " " * 300_000
    assert masked(large + body, "$.a[*].x").decode() == large + expected


def test_brackets_without_content_are_refused_before_they_hold_up_the_worker() -> None:
    with pytest.raises(Unreadable, match="brackets"):
        masked(b"[" + b"[[1],[]],[[[]]]," * 60_000 + b"[]]", "$.a..iban")


def test_it_counts_what_it_masks() -> None:
    editor = Editor([(paths.parse("$..a"), ways.LAST4), (paths.parse("$.b"), None)])
    assert editor.edit(b'{"a":"x","b":[1],"c":{"a":{"a":1}}}')[1] == 3
    assert editor.edit(b'{"c":1}') == (b'{"c":1}', 0)


@pytest.mark.parametrize(
    "text", ["", "iban", "$", "$.", "$..", "$.a.", "$.a[0]", "$[?(@.a)]", "$['a','b']", "$.a[1:2]", '$["a]', "$.a b", "$" + ".a" * 17, "$...a", "$.a..", '$["\\x"]', "$." + "a" * 600],
)  # fmt: skip
def test_other_paths_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        paths.parse(text)

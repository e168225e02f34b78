"""Where the script goes in a page: whole, byte by byte, and with what may mislead a reader of HTML."""

import pytest

from zt_proxy.worker.protect.inject.html import HELD, Inserter

TAG = b"<script></script>"
MARK = b"^"

PAGES = [
    # the head, in its forms
    b"<!doctype html><html><head>^<title>x</title></head><body></body></html>",
    b"<!DOCTYPE HTML>\r\n<HTML LANG=en>\r\n<HEAD>^\r\n<META charset=utf-8>",
    b"<!doctype html>\n<html>\n<!-- c -->\n<head\n\tdata-a='1'\n>^<meta>",
    b"<head>^", b"<head >^x", b"<head/>^x", b"<head\f>^x", b"<head\n/\n>^x", b"<html><head a>^",
    # attributes with what looks like an end
    b"<html a='>' b=\">\" c=' \"> '><head prefix=\"og: <head> >\">^<title>",
    b"<head a = '>'>^", b"<head a=x'>^'>", b"<head a\"b>^\">", b"<head a=>^b>", b"<head =\">^\">", b"<head a='1'\">^\">",
    b"<head a='1'/b='>'>^", b"<head a/=\">^\">", b"<head a=/>^", b"<head a=b/>^", b"<html a==\"><head>^\">",
    # tags that only begin alike
    b"<!doctype html>^<header><head>", b"<html>^<heads><head>", b"<!doctype html>^<htmlx>", b"^<he", b"<html>^<head-x>",
    # no head
    b"<!doctype html><html>^<body>x", b"<!doctype html>^<title>x</title>", b"<!doctype html>^text", b"^text", b"^<p>text",
    b"<html>^\n  <frameset>", b"<!doctype html>^\n", b"<html>^", b"^<!-- a fragment -->", b"^ ",
    b"<!doctype html>^<script>'<head>'</script><head>", b"<!doctype html>^<style><head></style>",
    # doctypes
    b"\n<!doctype html>\n<html>^<p>", b"<!doctype html SYSTEM '>^'>x", b"<!doctype>^x", b"<!doctypehtml>^x",
    b"<!-- a --> <?xml version='1.0'?><!doctype html>^x", b"^<!doctyp", b"<!doctype html>^<!doctyp",
    # comments
    b"<!--<head>--><!doctype html><html><head>^", b"<!--><head>^<!-- -->", b"<!---><head>^", b"<!----><head>^",
    b"<!--a--!><head>^", b"<!--!><head>--><head>^", b"<!---><head>^", b"<!-- -- > <head> --><head>^",
    b"<!-- <!-- --><head>^", b"<!-- <!--><head>^", b"<!--a-><head>--><head>^", b"<!--a--!-><head>--><head>^", b"^<!--a--->x",
    b"<!doctype html><html>^<!-- <head> ", b"<!doctype html>^<!-- x --", b"^<!-- <!doctype html>", b"^<!-", b"^<!", b"^<",
    b"<!--[if IE]><html class=ie><head><![endif]--><!doctype html><html><head>^",
    b"<!doctype html><!--[if !IE]><!--><html class=x><!--<![endif]--><head>^<title>",
    b"<!doctype html><![if !IE]><html><![endif]><head>^", b"^<![CDATA[<!x>]]><head>",
    b"^<?php <head> ?><head>",
    b"<!doctype html><?pi x><head>^", b"<!><head>^", b"<!x><head>^", b"<!-x><head>^",
    # end tags
    b"</p><head>^", b"</p a='>'><html></b><head>^", b"<html>^</head><head>", b"^</body>", b"^</html>", b"<html>^</br>",
    b"</><head>^", b"</ x><head>^", b"^</!-- > --><head>", b"^</", b"</1><head>^",
    # byte order marks
    b"\xef\xbb\xbf<!doctype html><head>^", b"\xef\xbb\xbf^x", b"^\xef\xbb<head>", b"^\xef", b"^\xfe", b"\xef\xbb\xbf^",
    b"\xef\xbb\xbf^\xef\xbb\xbf<!doctype html>", b"^\xff<head>", b"^\0<head>",
]  # fmt: skip


def inserted(page: bytes, step: int) -> tuple[bytes, bool]:
    inserter = Inserter(TAG)
    out = b"".join(inserter.feed(page[at : at + step]) for at in range(0, len(page), step)) + inserter.end()
    return out, inserter.placed


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
@pytest.mark.parametrize("marked", PAGES)
def test_the_tag_is_at_the_mark(marked: bytes, step: int) -> None:
    assert inserted(marked.replace(MARK, b""), step) == (marked.replace(MARK, TAG), True)


@pytest.mark.parametrize("step", [1, 10_000])
@pytest.mark.parametrize(
    "page", [b"", b"<!doctype html", b"\xff\xfe<\0h\0", b"\xfe\xff\0<\0h", b"\xff\xfe", b"\xfe\xff"]
)
def test_an_empty_page_and_one_in_utf_16_and_an_unfinished_doctype_have_no_place(page: bytes, step: int) -> None:
    assert inserted(page, step) == (page, False)


@pytest.mark.parametrize("step", [1000, HELD, 10**6])
def test_no_more_is_held_than_the_bound(step: int) -> None:
    long = b"<!--" + b"x" * HELD + b"-->"
    assert inserted(long + b"<!doctype html><head>", step) == (long + b"<!doctype html><head>", False)
    begun = b"<!doctype html><html>"
    assert inserted(begun + long + b"<head>", step) == (begun + TAG + long + b"<head>", True)
    attribute = b"<html a='" + b"x" * HELD + b"'><head>"
    assert inserted(attribute, step) == (TAG + attribute, True)
    inserter = Inserter(TAG)
    for _ in range(300):
        inserter.feed(b"<!-- " + b"x" * 1000)
    assert len(inserter._buffer) <= HELD


def test_what_stands_in_front_of_the_place_does_not_wait() -> None:
    inserter = Inserter(TAG)
    assert inserter.feed(b"<!doctype html>\n<ht") == b"<!doctype html>"
    assert inserter.feed(b"ml><!-- x") == b"\n<html>"
    assert inserter.feed(b" --><head><ti") == b"<!-- x --><head>" + TAG + b"<ti"
    assert inserter.feed(b"tle>") == b"tle>"
    assert inserter.end() == b""

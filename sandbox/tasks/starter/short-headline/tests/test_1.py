from headlines import shorten


def test_fits_exactly():
    assert shorten("hello", 5) == "hello"


def test_is_cut():
    assert shorten("hello world", 8) == "hello..."


def test_never_longer_than_the_limit():
    assert len(shorten("x" * 50, 20)) == 20


def test_short_text_stays():
    assert shorten("hi", 10) == "hi"

from templates import fill


def test_fills_a_gap():
    assert fill("Dear {name}", {"name": "Ann"}) == "Dear Ann"


def test_unknown_gap_stays():
    assert fill("Dear {name}", {}) == "Dear {name}"


def test_some_known():
    assert fill("{a} and {b}", {"b": 2}) == "{a} and 2"


def test_no_gaps():
    assert fill("Hello", {"name": "Ann"}) == "Hello"


def test_empty_value():
    assert fill("<{x}>", {"x": ""}) == "<>"

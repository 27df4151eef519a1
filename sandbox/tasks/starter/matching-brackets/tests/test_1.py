from brackets import is_balanced


def test_never_closed():
    assert is_balanced("(a + b") is False


def test_balanced():
    assert is_balanced("{[a] * (b + c)}") is True


def test_wrong_kind():
    assert is_balanced("(a]") is False


def test_closed_too_early():
    assert is_balanced(")(") is False


def test_one_of_two_closed():
    assert is_balanced("((x)") is False


def test_no_brackets():
    assert is_balanced("a + b") is True

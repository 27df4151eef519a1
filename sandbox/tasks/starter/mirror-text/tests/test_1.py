from mirror import mirror


def test_word():
    assert mirror("abc") == "cba"


def test_empty():
    assert mirror("") == ""


def test_one_letter():
    assert mirror("x") == "x"


def test_sentence():
    assert mirror("no way") == "yaw on"

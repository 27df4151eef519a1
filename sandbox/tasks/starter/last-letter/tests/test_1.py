from endings import last_letter


def test_of_a_word():
    assert last_letter("house") == "e"


def test_of_one_letter():
    assert last_letter("a") == "a"


def test_of_nothing():
    assert last_letter("") == ""


def test_capital():
    assert last_letter("abC") == "C"

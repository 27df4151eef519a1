from frequencies import letter_counts


def test_each_once():
    assert letter_counts("ab") == {"a": 1, "b": 1}


def test_repeated():
    assert letter_counts("hello") == {"h": 1, "e": 1, "l": 2, "o": 1}


def test_empty():
    assert letter_counts("") == {}


def test_same_letter():
    assert letter_counts("zzz") == {"z": 3}

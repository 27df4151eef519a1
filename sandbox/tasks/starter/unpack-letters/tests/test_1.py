from packing import unpack


def test_letter_without_count():
    assert unpack("a2b") == "abb"


def test_all_counted():
    assert unpack("3a2b") == "aaabb"


def test_no_counts():
    assert unpack("cat") == "cat"


def test_large_count():
    assert unpack("12x") == "x" * 12


def test_empty():
    assert unpack("") == ""

from office import is_open


def test_at_opening_time():
    assert is_open(9, 9, 17) is True


def test_at_closing_time():
    assert is_open(17, 9, 17) is False


def test_in_the_middle():
    assert is_open(12, 9, 17) is True


def test_before():
    assert is_open(8, 9, 17) is False

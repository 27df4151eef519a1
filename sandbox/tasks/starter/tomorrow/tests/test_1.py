from days import tomorrow


def test_end_of_january():
    assert tomorrow(1, 31) == (2, 1)


def test_late_january():
    assert tomorrow(1, 29) == (1, 30)


def test_end_of_february():
    assert tomorrow(2, 28) == (3, 1)


def test_new_year():
    assert tomorrow(12, 31) == (1, 1)


def test_middle_of_june():
    assert tomorrow(6, 15) == (6, 16)

from leap import is_leap


def test_every_fourth_year():
    assert is_leap(2024) is True


def test_ordinary_year():
    assert is_leap(2023) is False


def test_century_is_not():
    assert is_leap(1900) is False


def test_every_fourth_century_is():
    assert is_leap(2000) is True

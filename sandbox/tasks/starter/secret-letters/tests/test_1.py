from secrets_box import encrypt


def test_no_wrap():
    assert encrypt("abc", 1) == "bcd"


def test_wraps_after_z():
    assert encrypt("xyz", 3) == "abc"


def test_back_again():
    assert encrypt(encrypt("hazy", 5), -5) == "hazy"


def test_zero_shift():
    assert encrypt("zebra", 0) == "zebra"

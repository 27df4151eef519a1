from cards import mask


def test_sixteen_digits():
    assert mask("1234567812345678") == "************5678"


def test_six_digits():
    assert mask("123456") == "**3456"


def test_four_digits():
    assert mask("9876") == "9876"


def test_length_is_kept():
    assert len(mask("5" * 19)) == 19

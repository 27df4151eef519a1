from beginnings import begins_with


def test_first_letter():
    assert begins_with("tea", "t") is True


def test_last_letter_is_not_enough():
    assert begins_with("tea", "a") is False


def test_empty_word():
    assert begins_with("", "x") is False


def test_several_letters():
    assert begins_with("bread", "br") is True

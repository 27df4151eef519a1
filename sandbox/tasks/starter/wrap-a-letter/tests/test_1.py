from letters import wrap_text


def test_space_counts():
    assert wrap_text("aa bbb", 5) == ["aa", "bbb"]


def test_fits_exactly():
    assert wrap_text("aa bb", 5) == ["aa bb"]


def test_several_lines():
    assert wrap_text("the cat sat on the mat", 7) == ["the cat", "sat on", "the mat"]


def test_long_word_alone():
    assert wrap_text("a wonderful b", 4) == ["a", "wonderful", "b"]


def test_empty():
    assert wrap_text("", 5) == []

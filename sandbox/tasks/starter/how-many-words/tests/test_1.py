from word_count import count_words


def test_three_words():
    assert count_words("I am here") == 3


def test_one_word():
    assert count_words("hello") == 1


def test_no_words():
    assert count_words("") == 0


def test_extra_spaces():
    assert count_words("  a   b ") == 2

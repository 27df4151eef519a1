from sentences import make_sentence


def test_two_words():
    assert make_sentence(["Good", "day"]) == "Good day."


def test_one_word():
    assert make_sentence(["Stop"]) == "Stop."


def test_many_words():
    assert make_sentence(["I", "like", "tea"]) == "I like tea."


def test_no_words():
    assert make_sentence([]) == "."

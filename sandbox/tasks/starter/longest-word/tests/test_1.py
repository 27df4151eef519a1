from longest import longest_word


def test_in_the_middle():
    assert longest_word(["a", "house", "cat"]) == "house"


def test_no_words():
    assert longest_word([]) == ""


def test_first_of_equals():
    assert longest_word(["red", "tan"]) == "red"


def test_single():
    assert longest_word(["tree"]) == "tree"

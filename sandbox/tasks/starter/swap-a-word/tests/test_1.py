from replacing import swap_word


def test_one_word():
    assert swap_word("red car", "red", "blue") == "blue car"


def test_every_place():
    assert swap_word("a b a", "a", "c") == "c b c"


def test_absent_word():
    assert swap_word("red car", "green", "red") == "red car"


def test_delete():
    assert swap_word("so so", "so", "") == " "

from indexes import last_index


def test_of_three():
    assert last_index(["a", "b", "c"]) == 2


def test_of_one():
    assert last_index([9]) == 0


def test_of_none():
    assert last_index([]) == -1

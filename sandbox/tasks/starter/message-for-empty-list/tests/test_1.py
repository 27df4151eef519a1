from inbox import describe


def test_empty():
    assert describe([]) == "No mail"


def test_one():
    assert describe(["hi"]) == "1 new"


def test_three():
    assert describe(["a", "b", "c"]) == "3 new"

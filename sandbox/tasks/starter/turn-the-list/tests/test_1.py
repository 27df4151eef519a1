from carousel import turn


def test_one_step():
    assert turn([1, 2, 3], 1) == [3, 1, 2]


def test_two_steps():
    assert turn(["a", "b", "c", "d", "e"], 2) == ["d", "e", "a", "b", "c"]


def test_full_circle():
    assert turn([1, 2, 3], 3) == [1, 2, 3]


def test_zero_steps():
    assert turn([5, 6], 0) == [5, 6]

from nested import flatten


def test_two_rows():
    assert flatten([[1, 2], [3]]) == [1, 2, 3]


def test_empty_rows():
    assert flatten([[], [4], []]) == [4]


def test_no_rows():
    assert flatten([]) == []


def test_one_level_only():
    assert flatten([[[1]], [2]]) == [[1], 2]

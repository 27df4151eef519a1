from smoothing import moving_average


def test_last_window_counts():
    assert moving_average([1, 3, 5], 2) == [2, 4]


def test_size_one_changes_nothing():
    assert moving_average([4, 8], 1) == [4, 8]


def test_one_window():
    assert moving_average([2, 4, 6], 3) == [4]


def test_too_few_values():
    assert moving_average([1], 2) == []

from paging import pages


def test_even_pages():
    assert pages([1, 2, 3, 4], 2) == [[1, 2], [3, 4]]


def test_last_page_is_short():
    assert pages([1, 2, 3], 2) == [[1, 2], [3]]


def test_no_items():
    assert pages([], 3) == []


def test_one_page():
    assert pages(["a", "b"], 5) == [["a", "b"]]

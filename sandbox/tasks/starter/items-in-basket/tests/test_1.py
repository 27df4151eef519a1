from basket import has_item


def test_present():
    assert has_item(["tea", "milk"], "tea") is True


def test_absent():
    assert has_item(["tea", "milk"], "bread") is False


def test_empty_basket():
    assert has_item([], "tea") is False


def test_also_for_sets():
    assert has_item({"jam"}, "jam") is True

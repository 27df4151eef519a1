from shopping import read_items


def test_two_items():
    assert read_items("milk,bread") == ["milk", "bread"]


def test_one_item():
    assert read_items("tea") == ["tea"]


def test_three_items():
    assert read_items("a,b,c") == ["a", "b", "c"]


def test_semicolons_are_kept():
    assert read_items("a;b,c") == ["a;b", "c"]

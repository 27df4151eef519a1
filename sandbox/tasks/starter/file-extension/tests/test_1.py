from filenames import add_extension


def test_text_file():
    assert add_extension("notes", ".txt") == "notes.txt"


def test_picture():
    assert add_extension("cat", ".png") == "cat.png"


def test_second_extension():
    assert add_extension("a.tar", ".gz") == "a.tar.gz"


def test_no_extension():
    assert add_extension("readme", "") == "readme"

from people_names import full_name


def test_ada():
    assert full_name("Ada", "Lovelace") == "Ada Lovelace"


def test_alan():
    assert full_name("Alan", "Turing") == "Alan Turing"


def test_same_names():
    assert full_name("Lee", "Lee") == "Lee Lee"

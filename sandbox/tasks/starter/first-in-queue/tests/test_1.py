from waiting import first_person


def test_of_two():
    assert first_person(["Ann", "Bob"]) == "Ann"


def test_of_one():
    assert first_person(["Cy"]) == "Cy"


def test_of_many():
    assert first_person(["Di", "Ed", "Flo", "Gus"]) == "Di"

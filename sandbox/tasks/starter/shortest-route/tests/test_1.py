from routes import shortest_route


def test_takes_the_short_way():
    assert shortest_route(
        {"A": ["D", "B"], "B": ["C"], "C": ["E"], "D": ["E"], "E": []}, "A", "E"
    ) == ["A", "D", "E"]


def test_no_way():
    assert shortest_route({"A": ["B"]}, "B", "A") is None


def test_already_there():
    assert shortest_route({}, "A", "A") == ["A"]


def test_direct_road():
    assert shortest_route({"A": ["B", "C"], "C": ["B"]}, "A", "B") == ["A", "B"]


def test_round_trip_ends():
    assert shortest_route({"A": ["B"], "B": ["A"]}, "A", "C") is None

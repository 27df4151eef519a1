"""The order in which parts of a machine are built."""


def build_order(needs):
    """All parts, each after the parts that it needs. `needs` maps a part to a list of parts."""
    order = []

    def build(part):
        if part in order:
            return
        order.append(part)
        for other in needs.get(part, []):
            build(other)

    for part in sorted(needs):
        build(part)
    return order

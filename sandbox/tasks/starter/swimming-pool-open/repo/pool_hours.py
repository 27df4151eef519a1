"""When the swimming pool lets people in."""


def can_swim(closed):
    return closed

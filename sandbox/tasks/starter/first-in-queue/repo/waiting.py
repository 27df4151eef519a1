"""A queue of people."""


def first_person(people):
    return people[1]

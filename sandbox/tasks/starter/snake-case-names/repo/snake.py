"""Names for variables."""


def snake_case(title):
    words = title.strip().lower()
    return words.replace("-", "_")

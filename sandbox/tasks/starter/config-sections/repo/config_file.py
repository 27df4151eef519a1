"""Configuration files with [sections]."""


def parse_config(text):
    """Section -> key -> value. Keys before the first section belong to `main`."""
    section = {}
    config = {"main": section}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            config[line[1:-1]] = {}
        else:
            key, _, value = line.partition("=")
            section[key.strip()] = value.strip()
    return config

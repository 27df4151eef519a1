"""Friends of two people."""


def in_common(mine, yours):
    common = []
    for friend in mine:
        if friend in mine:
            common.append(friend)
    return common

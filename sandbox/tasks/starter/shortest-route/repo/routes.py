"""Routes between towns."""


def shortest_route(roads, start, goal):
    """The towns on the way with the fewest roads, or None. `roads` maps a town to its neighbours."""
    routes = [[start]]
    visited = {start}
    while routes:
        route = routes.pop()
        if route[-1] == goal:
            return route
        for town in roads.get(route[-1], []):
            if town not in visited:
                visited.add(town)
                routes.append(route + [town])
    return None

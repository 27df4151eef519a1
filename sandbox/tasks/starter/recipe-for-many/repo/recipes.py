"""Recipes for more or fewer people."""

from measures import to_grams


def scale(ingredients, servings, wanted):
    """Grams of each ingredient for `wanted` servings, from a recipe for `servings`."""
    factor = wanted // servings
    scaled = {}
    for name, (amount, unit) in ingredients.items():
        scaled[name] = to_grams(amount, unit) * factor
    return scaled

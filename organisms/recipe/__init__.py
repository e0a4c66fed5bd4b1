"""The recipe: `python -m organisms.recipe`."""

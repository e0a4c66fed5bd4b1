"""The organisms: training data, recipe, and what it made."""

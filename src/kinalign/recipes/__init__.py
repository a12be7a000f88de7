"""Recipes: the settings that a shipped model was trained with, what they cost and what they promise."""

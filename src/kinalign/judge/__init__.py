"""Judges: what a motion shows of what its prompt asks for, as a score of 1 to 5 with reasons."""

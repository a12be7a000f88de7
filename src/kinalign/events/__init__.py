"""Events of a motion: what happens, when, how often and on which side."""

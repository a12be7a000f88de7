"""Clips on disk: readers of openmocap20 and of HumanML3D's layout, and the builder of new data sets."""

"""Preference data: prompts, candidate motions, verdicts, and pairs of which one is better."""

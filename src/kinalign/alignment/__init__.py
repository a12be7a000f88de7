"""Teaching a model what a judge likes: composed motions, preferences, rewards, policy gradients, a reward model."""

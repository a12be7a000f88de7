"""Teaching a model what a judge likes: composed motions, preference losses, rewards, policy gradients, a reward model."""

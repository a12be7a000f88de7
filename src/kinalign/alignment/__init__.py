"""Teaching a model what a judge likes: rewards, group-relative policy gradients, PPO, a reward model."""

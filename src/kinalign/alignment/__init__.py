"""Teaching a model what a judge likes: preference losses, rewards, group-relative policy gradients, PPO."""

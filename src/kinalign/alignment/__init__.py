"""Learning from rewards: motions composed of real clips, preferences, a reward model, policy gradients."""

"""Planning: from a scene to tasks, to steps, to one long motion, and back (AvatarGPT, Zhou et al., CVPR 2024)."""

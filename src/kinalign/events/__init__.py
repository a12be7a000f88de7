"""What happens in a motion: event programs, read from sentences and said in words."""

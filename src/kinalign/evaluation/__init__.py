"""Numbers from generated motions and captions: pure functions, each with its definition and where that comes from."""

"""The motion language model: T5 that reads text and motion codes and answers in either. It never sees a motion."""

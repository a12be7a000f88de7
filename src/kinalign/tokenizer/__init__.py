"""The motion tokenizer: motions to discrete codes and back."""

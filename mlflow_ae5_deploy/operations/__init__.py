"""What is done to an installation: proving it from outside, and the verbs of daily work."""

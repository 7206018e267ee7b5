"""doctor: every precondition of an installation looked at, each with a severity and a remedy."""

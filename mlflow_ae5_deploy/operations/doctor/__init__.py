"""doctor: check every precondition of an installation; each finding has a severity and a remedy."""

"""The 14 stages of an install and their order."""

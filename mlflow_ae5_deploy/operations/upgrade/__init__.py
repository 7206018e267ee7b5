"""From one release to the next, and back by itself when anything fails on the way."""

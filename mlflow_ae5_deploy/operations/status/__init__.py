"""status: observe the installation, then judge what was observed. run.py is the whole; problems.py is pure."""

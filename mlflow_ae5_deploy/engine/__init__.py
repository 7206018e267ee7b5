"""Plan, executor, journal, lock and state of an installation."""

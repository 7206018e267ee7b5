"""The 14 stages: plan as data, the runner, the journal, the lock, and what is remembered between runs."""

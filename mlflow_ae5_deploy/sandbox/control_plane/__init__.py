"""Faults, call log and settings of a running sandbox, for tests and rehearsals."""

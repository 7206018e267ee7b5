"""Test a restored snapshot in a temporary location."""

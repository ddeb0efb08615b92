"""Tests of the staff console against a real database."""

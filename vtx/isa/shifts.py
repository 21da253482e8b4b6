"""Shifts and rotates."""

"""Bit tests, scans, counts and the BMI instructions."""

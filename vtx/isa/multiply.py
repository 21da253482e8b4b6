"""Multiplication, division and the decimal adjustments."""

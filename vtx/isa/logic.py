"""Bitwise logic: AND OR XOR NOT TEST ANDN."""

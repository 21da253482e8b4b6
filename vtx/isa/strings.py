"""String instructions, one iteration at a time."""

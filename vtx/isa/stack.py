"""PUSH, POP, ENTER, LEAVE and their kin."""

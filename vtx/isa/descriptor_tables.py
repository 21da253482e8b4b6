"""GDTR, IDTR, LDTR, TR."""

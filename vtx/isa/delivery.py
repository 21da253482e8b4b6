"""Event delivery through the IDT."""

"""Loading segment registers and asking about descriptors."""

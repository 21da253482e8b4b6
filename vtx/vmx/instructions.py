"""The VMX instructions."""

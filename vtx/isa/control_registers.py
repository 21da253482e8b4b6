"""Control and debug registers."""

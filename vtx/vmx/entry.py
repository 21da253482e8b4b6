"""VM entry."""

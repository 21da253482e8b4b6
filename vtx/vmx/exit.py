"""VM exit."""

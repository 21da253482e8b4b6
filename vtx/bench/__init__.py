"""Speed measurements. The one room that may look at a clock; it must not change what it runs."""

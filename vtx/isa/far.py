"""Far control transfers."""

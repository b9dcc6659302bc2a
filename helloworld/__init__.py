"""Chapter 2: the first call."""

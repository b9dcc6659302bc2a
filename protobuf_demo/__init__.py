"""Chapter 1: messages without a network."""

"""Chapter 3: the four kinds of call, on real places."""

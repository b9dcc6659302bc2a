"""Chapter 6: more servers, and what stands between them and their clients."""

"""Chapter 6: more servers, and the proxies in front of them."""

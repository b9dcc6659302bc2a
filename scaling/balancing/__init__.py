"""Balancing in the client: who gets a call, and which calls are lost when a backend goes."""

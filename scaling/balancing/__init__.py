"""Balancing in the client: who gets a call, and who notices that a backend has gone."""

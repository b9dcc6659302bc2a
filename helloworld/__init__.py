"""The first call: a server that greets, and its clients."""

"""How many cores, machines and databases a rate of calls needs."""

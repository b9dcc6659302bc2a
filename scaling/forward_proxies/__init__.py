"""A client behind a proxy: the variables, the option, the traps."""

"""A client behind a proxy: the variables, the options, what is ignored."""

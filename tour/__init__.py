"""Plays the console sessions of the chapter READMEs; `make run` and the tests both use it."""

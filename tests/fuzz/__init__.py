"""Fuzzing: `python -m tests.fuzz` looks for inputs that break what the product promises for every input."""

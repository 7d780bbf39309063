"""Performance benchmarks: speed, memory and scale. README.md lists them."""

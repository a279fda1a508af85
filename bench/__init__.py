"""Benchmarks on the real stack: `make bench` prints JSON. They measure; they do not pass or fail."""

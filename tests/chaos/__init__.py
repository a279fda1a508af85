"""Chaos on the real stack: a bank goes on transferring while its handlers and its broker fail; nothing is lost."""

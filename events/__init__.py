"""The log: what an event is, how it is written and read, and what it does to an account.

`types` and `account` are the meaning (pure), `money` the arithmetic, `codec` and `registry` the bytes, `topics`
and `partitioner` the places, `log` the port that the write side stands on, `kafka_log` and `follow` its I/O.
"""

"""The write side: commands in, events and outcomes out.

`types`, `validation`, `decide` and `payload` are pure. `state` is what a partition remembers, `group` decides a
group of commands against it, `handler` does that in transactions on the log, `restore` brings a partition back, and
`service` keeps a handler running. What can't be read becomes a `deadletter`, which an operator may `requeue`.
"""

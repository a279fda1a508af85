"""`make demo`: the main job on the real stack, the services killed half-way, the proof that all is well.

`workload` says what is asked (seeded), `traffic` asks it and keeps what is told, `processes` runs and kills the
services, `audit` compares all of it with the log and the read model, `story` tells it from the beginning to the end.
"""

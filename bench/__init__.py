"""The benchmark: forkful and its peers, measured side by side in one run.  ``python -m bench --help`` shows how.

General layout, from the pool outwards:

- `workloads`: the functions that the pools run; `peers`: one adapter for each pool, behind one protocol
- `measure`: what a measure is; `measures`: the measures, a file for each group, and those still to come
- `sample`: the process that takes one sample; `runner`: runs it, time after time, round after round, with a watchdog
- `results`: what came out; `verdict`: whether that is enough; `report`: both as Markdown.  These three are pure

Rules that keep it fair: each sample is taken in a process of its own, with nothing but the pool under test in it; pools
take turns within each round (A B C A B C), so that a machine that slows down slows all of them; every pool is warm
before the clock starts, unless its start is what is measured; results are checked after the clock has stopped; the
collector, the scheduler and the pools' own settings stay as a user finds them.
"""

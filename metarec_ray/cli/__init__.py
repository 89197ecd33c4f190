"""The `metarec` command: parse, call, print; no logic.

Verbs import what they need when they run, so that `metarec --help` is quick and `metarec doctor`
works where Ray does not. Begin with `app`.
"""

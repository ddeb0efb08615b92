"""The embedded stack.

PostgreSQL, Temporal's dev server, the sandbox and our own processes, supervised on one machine.
"""

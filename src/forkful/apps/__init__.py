"""The programs behind the commands, as functions: customers of the public API, strangers to each other.

What they share stands beside them: how a function is named (`functions`), how times and numbers of processes are
spelled (`spellings`), and the one error for a request that cannot be carried out (`problems`).
"""

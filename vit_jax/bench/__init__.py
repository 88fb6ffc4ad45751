"""How fast is the train step here, and how fast is the rival on the same machine in the same run.

This file imports nothing, so that the rival's process has no JAX.
"""

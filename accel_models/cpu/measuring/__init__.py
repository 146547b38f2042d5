"""Timing of the machine that runs this program, and a spec of it."""

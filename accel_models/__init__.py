"""Machines: a folder a family, with its model code, its specs and its constants as data."""

"""How rows of measurements on CPUs are read; the names are in `measurements.toml`."""

from pathlib import Path

from simsparse.alias_reader import AliasReader

READER = AliasReader(Path(__file__).with_suffix(".toml"))

"""Dataflow analysis: what a loop nest on storage levels with sparse features moves, takes and burns."""

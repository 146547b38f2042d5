"""The commands of `simsparse`, a module for each group; heavy imports stay inside the functions that need them."""

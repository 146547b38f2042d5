"""Timing of 2:4 against dense products on the card of this machine, with PyTorch; see `card.measure`."""

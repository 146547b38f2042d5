"""Constants that datasheets do not give, fitted to measurements of one machine; overlays that hold them."""

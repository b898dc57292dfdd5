"""A slow network on one machine, for measurements: hosts that are network namespaces, joined by a switch of our own."""

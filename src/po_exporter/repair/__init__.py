"""Mending, and what it starts with: seeing how a position came to be."""

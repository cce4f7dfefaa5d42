"""Watching: what is asked, when, and what the answers add up to."""

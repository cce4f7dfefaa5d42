"""Tells people what happened: incidents out of results, summaries of them, and the channels that carry those."""

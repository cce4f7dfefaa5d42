"""Shows what the watching found: metrics, JSON and a page, over HTTP. It reads memory and asks no database."""

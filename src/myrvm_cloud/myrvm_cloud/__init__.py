"""Cloud bridge and offline buffer nodes."""

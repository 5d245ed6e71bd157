"""The coordinator: runs one deposit from inserted item to credited account."""

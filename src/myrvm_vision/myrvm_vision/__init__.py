"""Detector node and inference engines."""

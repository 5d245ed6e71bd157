"""Camera, sensor and actuator nodes and their drivers."""

"""Every stand-in, and nothing else: simulated cabinet, reference MyRVM-Server."""

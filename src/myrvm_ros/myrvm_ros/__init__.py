"""What every node shares: the managed lifecycle node, QoS profiles, stamps."""

"""Commands that manage the installation: networks, weights, the store, the machine. None reads a user's images."""

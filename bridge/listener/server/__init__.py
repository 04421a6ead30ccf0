"""The HTTP server: the bound socket, connections, and their limits."""

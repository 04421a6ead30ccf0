"""The journal in a PostgreSQL database, shared by the nodes of a cluster."""

"""The description of the HTTP API in OpenAPI 3.1: a module for each group of operations."""

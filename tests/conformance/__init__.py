"""The rules S1 to S33 of the stream as tables, run in every way that bytes can come."""

"""The stand-in for November 7: a server of the sample catalogue with configurable faults."""

"""The stand-in for November 7: the sample catalogue over HTTP, with switches for its faults."""

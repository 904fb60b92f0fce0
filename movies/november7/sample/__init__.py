"""A sample of November 7: movies of our own, in process or served with November 7's faults."""

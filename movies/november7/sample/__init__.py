"""A sample catalogue that answers searches in process, where no provider is set."""

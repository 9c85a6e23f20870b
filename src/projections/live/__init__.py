"""What is pushed: the port of the live feed and its adapters."""

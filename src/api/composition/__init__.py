"""Settings, and the container that opens the adapters they name."""

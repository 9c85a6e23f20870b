"""Programs of the image's build, and its health check. Standard library only: they run before any installation."""

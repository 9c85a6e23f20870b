"""The ASGI application, and what all its routes share."""

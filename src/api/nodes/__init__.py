"""The nodes' own routes, as clients use them, and the bytes of their messages."""

"""Load: the requests as bytes, the generator that counts responses, and clients that look into each response."""

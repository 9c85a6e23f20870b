"""The other nodes: forwarding of commands and reads, delivery of follow-ups, and the receiving end."""

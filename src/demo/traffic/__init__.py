"""Which commands the game servers send. Seeded, no I/O."""

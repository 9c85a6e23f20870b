"""The endpoints, each a few lines: decode, ask the ledger, encode."""

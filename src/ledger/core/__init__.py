"""The pure core: what may happen to a wallet. Imports the standard library and msgspec only."""

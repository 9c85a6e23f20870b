"""The program ``stakelog``: one module per command."""

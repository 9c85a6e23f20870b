"""The measures: each is a function from the laboratory to rows of the report."""

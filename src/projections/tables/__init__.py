"""What every read model is made of: rows and their columns, the rows in memory, statements, fields of documents.

Nothing in this package knows a particular read model. ``projections.models`` lists them.
"""

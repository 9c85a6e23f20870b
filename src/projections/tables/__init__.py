"""The building blocks of every read model: rows and columns, the row buffer, queries, fields of documents.

Nothing in this package knows a particular read model. ``projections.models`` lists them.
"""

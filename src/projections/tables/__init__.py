"""The building blocks of every read model. Nothing in this package knows a particular one.

``rows`` and their ``columns``, ``tables`` of them, sums without bounds in ``wide``, the ``row_buffer`` of a fold, a
``model`` as a value, ``queries``, lists of ``all_users``, and the ``fields`` of documents. The read models are in
``projections.models``.
"""

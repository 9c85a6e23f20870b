"""The program ``stakelog``: ``main`` has its commands, one module each.

``serve``, ``worker`` (``stakelog project``), ``project`` (its other commands), ``audit``, ``backup``, ``clients``,
``keys``, ``migrate``, ``upgrade``, ``what_if`` and ``importing``; ``logs`` is the form of the log, ``progress`` shows
how far a long command is, ``forms_of_rules`` has pay tables and rules as JSON, ``listener`` is an HTTP server,
``sockets`` reaches its sockets, ``open_files`` bounds their number, ``tls`` and ``tls_trial`` check its certificate.
"""

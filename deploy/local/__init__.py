"""Starts real servers: Kafka, PostgreSQL, MariaDB and Redis on this machine, without containers.

``python3 -m deploy.local install`` installs what is missing; ``python3 -m deploy.local run kafka redis`` starts
servers and stops them on Ctrl-C. Only the standard library is needed, so that it runs before the project is set up.

Invariants:
(1) each server has a free port of 127.0.0.1, its own data folder, and a log next to it;
(2) a server is stopped by its process id, never by name; when the process that started it dies, the kernel stops it;
(3) ``start`` returns once the server takes requests; a failure is a ``Trouble`` that says what to do.
"""

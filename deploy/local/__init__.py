"""Real servers by hand: Kafka, PostgreSQL, MariaDB and Redis on this machine, without containers.

``python3 -m deploy.local install`` installs what is missing; ``python3 -m deploy.local run kafka redis`` starts
servers and stops them on Ctrl-C. Only the standard library is needed, so that it runs before the project is set up.

Truths:
(1) each server has a free port of 127.0.0.1, a data folder of its own, and a log beside it;
(2) a server is stopped by its process id, never by name, and also when whoever started it dies: the kernel tells it;
(3) ``start`` returns once the server takes requests; what goes wrong is a ``Trouble`` that says what to do.
"""

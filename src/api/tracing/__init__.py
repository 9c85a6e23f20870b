"""Traces by OpenTelemetry: ``otlp`` makes spans and sends them, ``visible`` ends those that wait for the read model.

Imported only with ``STAKELOG_TRACES``: OpenTelemetry is an optional part of the installation.
"""

"""What operators and auditors do with a log: audit, replay, export, backup, migrate."""

"""What watches a ledger: Prometheus rules and a Grafana dashboard."""

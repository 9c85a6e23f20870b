"""What the service is compared with: the least that any service on the same parts must do."""

"""What all reads share: positions, cursors, status, supply."""

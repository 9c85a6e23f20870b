"""What the image is made with. Standard library only: it runs before anything is installed."""

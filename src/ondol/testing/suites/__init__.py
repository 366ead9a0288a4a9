"""What every implementation of a port must do. Subclass a suite in a test module and give it its fixtures; needs pytest."""

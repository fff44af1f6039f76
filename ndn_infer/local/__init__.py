"""A network on this machine alone: its processes, and the models that they need."""

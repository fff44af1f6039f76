"""How answers are written: one module for each form of the API."""

"""Claims that can be checked: signed statements that name their inputs, and what follows from them. Pure."""

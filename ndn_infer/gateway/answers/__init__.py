"""What the last answers rested on: their names, packets and tokens, kept for whoever looks."""

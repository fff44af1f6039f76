"""State Vector Sync: who has published how much, and what, without any node in the centre."""

"""Offers: what producers say they can do now, who is asked, in which order."""

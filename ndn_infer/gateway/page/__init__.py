"""The live page: static files, and the documents that it shows."""

"""The API described as OpenAPI 3.1 has it: what requests have, what answers look like, which paths there are."""

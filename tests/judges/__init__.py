"""Programs that others wrote, which judge the gateway."""

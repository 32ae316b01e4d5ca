"""Where we may go: the addresses that may be called, and how names become addresses. All outgoing requests ask here."""

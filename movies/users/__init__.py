"""Registration and the user's own account."""

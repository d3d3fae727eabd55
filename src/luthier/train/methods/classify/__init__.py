"""Classification by a head."""

"""What attaches adapters to a model: PEFT's where PEFT has them, and those written here."""

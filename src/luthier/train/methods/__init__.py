"""Methods: each a Spec and the loss it builds."""

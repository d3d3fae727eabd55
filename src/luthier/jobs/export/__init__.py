"""Export with proof: each form is built, run in its own engine, and compared with the tuned model."""

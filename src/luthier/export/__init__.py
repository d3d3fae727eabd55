"""Export: deployable folders, each with a manifest of hashes and a proof."""

"""The verdict: from what was measured to prompt, few-shot, retrieve, tune or data; pure, without a model."""

"""The REST door: OpenAI's and Azure's words, translated to ours."""

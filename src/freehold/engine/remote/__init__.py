"""Any OpenAI-compatible URL behind the same queue as a model of one's own."""

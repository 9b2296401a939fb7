"""OpenAI's Responses API: `create` takes a request, `events` and `object` tell its answer, `kept` tells it again."""

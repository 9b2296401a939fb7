"""OpenAI's Files and Batches: a file of requests in, a file of answers out, whatever is killed meanwhile."""

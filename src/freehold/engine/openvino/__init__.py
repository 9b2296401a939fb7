"""openvino-genai's continuous batching, driven a step at a time. The CPU default."""

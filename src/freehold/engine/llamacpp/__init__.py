"""llama.cpp as a library (xllamacpp). Runs every GGUF architecture."""

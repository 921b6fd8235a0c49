"""NVIDIA's and OpenAI's files of weights, read without executing anything in them."""

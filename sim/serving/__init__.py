"""Serving of language models on a tiered KV cache: continuous batching, prefix caching, tiers below the accelerator."""

"""Encode texts and images with a `Tower`: parameters, settings and tokenizer of one encoder."""

from optical_jax.towers.tower import Tower, encode, hidden_states

"""The node's own API, `/ondol/v1`: what no vendor's API has a word for."""

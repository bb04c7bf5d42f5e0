"""What screens are made of: rows and text, no nouns."""

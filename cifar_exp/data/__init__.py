"""Data sets as uint8 arrays, split for training, validation and test."""

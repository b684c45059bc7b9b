"""The engine's methods again, in plain numpy and float64: slow, short, and written to be checked by reading."""

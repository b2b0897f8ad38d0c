"""What a designer asks: which shape of array, which bits first."""

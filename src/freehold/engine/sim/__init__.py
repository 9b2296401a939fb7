"""Plays a measured profile back: for tests of chaos and load, and for planning without the hardware."""

"""Runs the scheduler's steps on the device."""

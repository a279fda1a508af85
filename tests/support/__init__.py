"""What tests of several folders share. Imported by name, never discovered."""

"""What the services say to each other: caller and callee import the same classes."""
